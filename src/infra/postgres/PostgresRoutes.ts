import { randomInt } from "node:crypto"
import * as PostgresFault from "./PostgresFault.js"
import { PostgresReadOnly, PostgresRefusal } from "./PostgresFault.js"
import type { Facts } from "./PostgresSession.js"
import type { Target, Tls, WantedSession } from "./PostgresUrl.js"
import type { Host } from "./PostgresUrlParts.js"

export interface ConnectionOptions {
  readonly target: Target
  /** Where the URL gives none. */
  readonly applicationName: string
  /** For all hosts together. */
  readonly connectTimeoutMillis: number
  /** Told when a statement met a read-only transaction. */
  readonly onReadOnly?: () => void
}

/** One way to a server. */
export interface Attempt {
  readonly host: Host
  readonly encrypted: boolean
  readonly wants: WantedSession
}

export const encryptions: Readonly<Record<Tls["mode"], ReadonlyArray<boolean>>> = {
  disable: [false],
  allow: [false, true],
  prefer: [true, false],
  require: [true],
  "verify-ca": [true],
  "verify-full": [true]
}

/** A first look at all hosts, and where it finds none that is wanted, a second. */
const rounds = (session: WantedSession): ReadonlyArray<WantedSession> =>
  session === "prefer-standby"
    ? ["standby", "any"]
    : session === "prefer-read-write"
    ? ["read-write", "any"]
    : [session]

/** All ways, in the order in which they are tried. `plain` are hosts that were seen to do no TLS. */
export const attemptsOf = (
  { hosts, session, shuffled, tls }: Target,
  plain: ReadonlySet<string>
): ReadonlyArray<Attempt> => {
  const order = shuffled
    ? hosts.map((host) => ({ host, place: randomInt(2 ** 31) })).sort((a, b) => a.place - b.place).map((_) => _.host)
    : hosts
  const kinds = ({ host }: Host) => {
    // a Unix socket does not leave the machine
    if (host.startsWith("/")) return [false]
    const kinds = encryptions[tls.mode]
    return plain.has(host) && kinds.length > 1 ? [false, true] : kinds
  }
  return rounds(session).flatMap((wants) =>
    order.flatMap((host) => kinds(host).map((encrypted) => ({ host, encrypted, wants })))
  )
}

/** Whether a session is one that is wanted. */
export const suits = (wants: WantedSession, { readonly, standby }: Facts) =>
  wants === "read-write"
    ? !readonly
    : wants === "read-only"
    ? readonly
    : wants === "primary"
    ? !standby
    : wants === "standby"
    ? standby
    : true

/** Whom nobody answers at: another way to the same host leads nowhere, too. */
const isNowhere = (error: Error) =>
  "code" in error && /^(ECONNREFUSED|ETIMEDOUT|ENOTFOUND|EAI_|EHOST|ENET|ENOENT)/.test(String(error.code))

/** Where to go on after an error, or after a server that is not the one wanted; nowhere when it is final. */
export const following = (
  attempts: ReadonlyArray<Attempt>,
  index: number,
  error: Error | undefined
): number | undefined => {
  const { host, wants } = attempts[index]!
  const after = (same: boolean) => {
    const found = attempts.findIndex((other, i) => i > index && (same || other.host !== host || other.wants !== wants))
    return found === -1 ? undefined : found
  }
  if (error === undefined) return after(false)
  if (error instanceof PostgresRefusal) return undefined
  const state = PostgresFault.stateOf(error)
  // a rule of the server may be for connections of the other kind
  if (state === "28000") return attempts[index + 1]?.host === host ? index + 1 : undefined
  // nobody there, or a server that starts or stops; to others a wrong password would be as wrong
  return state === undefined
    ? after(!isNowhere(error))
    : /^(08|57P)/.test(state)
    ? after(false)
    : undefined
}

/** A server that answers, and is not the one that is wanted. */
export const unsuited = (wants: WantedSession) => {
  const asked = `and target_session_attrs=${wants} is asked for`
  return wants === "read-write" || wants === "primary"
    ? new PostgresReadOnly(`is ${wants === "primary" ? "a standby" : "read-only"}, ${asked}`)
    : new Error(`is ${wants === "standby" ? "no standby" : "not read-only"}, ${asked}`)
}

/** What all hosts have said, with the code of the last. */
export const summary = (failures: ReadonlyArray<string>, last: Error) =>
  Object.assign(
    last instanceof PostgresRefusal ? new PostgresRefusal(failures.join("; ")) : new Error(failures.join("; ")),
    "code" in last ? { code: last.code } : {}
  )
