import { createRequire } from "node:module"
import * as AbortedRecords from "./AbortedRecords.js"
import * as Connection from "./Connection.js"
import * as ConsumerGroupSeek from "./ConsumerGroupSeek.js"
import * as Coordinators from "./Coordinators.js"
import * as FetchDecoder from "./FetchDecoder.js"
import * as IdleTimers from "./IdleTimers.js"
import type { Patch } from "./Patch.js"
import * as ProduceAnswers from "./ProduceAnswers.js"
import * as RecordEncoder from "./RecordEncoder.js"
import * as TransactionMarkers from "./TransactionMarkers.js"

/** Version of kafkajs for which the patches are written. */
const version = "2.2.4"

/** All patches. README.md beside this file says what each is for. */
export const patches: Readonly<Record<string, Patch>> = {
  AbortedRecords: AbortedRecords.patch,
  Connection: Connection.patch,
  ConsumerGroupSeek: ConsumerGroupSeek.patch,
  Coordinators: Coordinators.patch,
  FetchDecoder: FetchDecoder.patch,
  IdleTimers: IdleTimers.patch,
  ProduceAnswers: ProduceAnswers.patch,
  RecordEncoder: RecordEncoder.patch,
  TransactionMarkers: TransactionMarkers.patch
}

type Load = (module: string) => unknown

/** Differences between a library and what a patch expects of it. */
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

let installed = false

/**
 * Installs all patches, once. Throws when kafkajs has another version, or when a function that a patch touches is missing
 * or takes other parameters: without its patches the client loses or blocks records.
 */
export const install = () => {
  if (installed) return
  const load = createRequire(import.meta.url)
  const { version: found } = load("kafkajs/package.json") as { readonly version: string }
  const problems = [
    ...(found === version ? [] : [`its version is ${found}, not ${version}`]),
    ...Object.values(patches).flatMap((patch) => mismatches(patch, load))
  ]
  if (problems.length > 0) throw new Error(`kafkajs is not the one that the patches are for: ${problems.join("; ")}`)
  for (const patch of Object.values(patches)) patch.install()
  installed = true
}
