import { createRequire } from "node:module"
import * as AbortedRecords from "./AbortedRecords.js"
import * as Connection from "./Connection.js"
import * as ConsumerGroupSeek from "./ConsumerGroupSeek.js"
import * as Coordinators from "./Coordinators.js"
import * as FetchDecoder from "./FetchDecoder.js"
import * as IdleTimers from "./IdleTimers.js"
import * as Leaderless from "./Leaderless.js"
import * as Login from "./Login.js"
import * as Membership from "./Membership.js"
import * as NewGroups from "./NewGroups.js"
import type { Load, Patch } from "./Patch.js"
import * as ProduceRequests from "./ProduceRequests.js"
import * as RecordEncoder from "./RecordEncoder.js"
import * as RequestTimeouts from "./RequestTimeouts.js"
import * as TransactionMarkers from "./TransactionMarkers.js"

/** The version of kafkajs that the patches are written for. */
const version = "2.2.4"

/** All patches, by the name of their file. README.md beside this file describes each. */
export const patches: Readonly<Record<string, Patch>> = {
  AbortedRecords: AbortedRecords.patch,
  Connection: Connection.patch,
  ConsumerGroupSeek: ConsumerGroupSeek.patch,
  Coordinators: Coordinators.patch,
  FetchDecoder: FetchDecoder.patch,
  IdleTimers: IdleTimers.patch,
  Leaderless: Leaderless.patch,
  Login: Login.patch,
  Membership: Membership.patch,
  NewGroups: NewGroups.patch,
  ProduceRequests: ProduceRequests.patch,
  RecordEncoder: RecordEncoder.patch,
  RequestTimeouts: RequestTimeouts.patch,
  TransactionMarkers: TransactionMarkers.patch
}

/** Functions that are missing, or that take another number of parameters than the patch expects. */
export const mismatches = ({ members, module }: Patch, load: Load): ReadonlyArray<string> => {
  const loaded = load(module) as { readonly prototype?: object }
  const target = (loaded.prototype ?? loaded) as Readonly<Record<string, unknown>>
  return Object.entries(members).flatMap(([name, parameters]) => {
    const member = target[name]
    if (typeof member !== "function") return [`${module} has no function ${name}`]
    return member.length === parameters
      ? []
      : [`${name} of ${module} takes ${member.length} parameters, not ${parameters}`]
  })
}

/**
 * Installs all patches in one copy of the library. Throws when kafkajs has another version, or when a function that a patch
 * touches is missing or takes other parameters: an unpatched client would lose or block records.
 */
export const installIn = (load: Load) => {
  const { version: found } = load("kafkajs/package.json") as { readonly version: string }
  const problems = [
    ...(found === version ? [] : [`its version is ${found}, not ${version}`]),
    ...Object.values(patches).flatMap((patch) => mismatches(patch, load))
  ]
  if (problems.length > 0) throw new Error(`kafkajs does not match its patches: ${problems.join("; ")}`)
  for (const patch of Object.values(patches)) patch.install(load)
}

let installed = false

/** Installs all patches in the library that this process uses, once. */
export const install = () => {
  if (installed) return
  installIn(createRequire(import.meta.url))
  installed = true
}
