import { randomInt } from "node:crypto"
import * as PostgresFault from "./PostgresFault.js"
import { PostgresReadOnly, PostgresRefusal } from "./PostgresFault.js"
import type { Facts } from "./PostgresSession.js"
import { OldPrimary } from "./PostgresTimeline.js"
import type { Target, Tls, WantedSession } from "./PostgresUrl.js"
import type { Host } from "./PostgresUrlParts.js"

export interface ConnectionOptions {
  readonly target: Target
  /** Default for URLs without `application_name`. */
  readonly applicationName: string
  /** Time limit for all hosts together, without the password. */
  readonly connectTimeoutMillis: number
  /** Gives each new connection its password, instead of the one in the URL. */
  readonly password?: (() => Promise<string>) | undefined
  /** Called when open connections may not lead to the primary: a transaction was read-only, or there is a later timeline. */
  readonly onDemoted?: () => void
}

/** One host, encryption mode and required kind of session to try. */
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

/** Required kinds of session, in the order of the rounds over all hosts. */
const rounds = (session: WantedSession): ReadonlyArray<WantedSession> =>
  session === "prefer-standby"
    ? ["standby", "any"]
    : session === "prefer-read-write"
    ? ["read-write", "any"]
    : [session]

/** All attempts in order. `plain` has the hosts that are known not to support TLS. */
export const attemptsOf = (
  { hosts, session, shuffled, tls }: Target,
  plain: ReadonlySet<string>
): ReadonlyArray<Attempt> => {
  const order = shuffled
    ? hosts.map((host) => ({ host, place: randomInt(2 ** 31) })).sort((a, b) => a.place - b.place).map((_) => _.host)
    : hosts
  const kinds = ({ host }: Host) => {
    // a Unix socket needs no encryption
    if (host.startsWith("/")) return [false]
    const kinds = encryptions[tls.mode]
    return plain.has(host) && kinds.length > 1 ? [false, true] : kinds
  }
  return rounds(session).flatMap((wants) =>
    order.flatMap((host) => kinds(host).map((encrypted) => ({ host, encrypted, wants })))
  )
}

/** True when a session is of the required kind. */
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

/** True when the host cannot be reached at all: another encryption mode does not help. */
const isUnreachable = (error: Error) =>
  "code" in error && /^(ECONNREFUSED|ETIMEDOUT|ENOTFOUND|EAI_|EHOST|ENET|ENOENT)/.test(String(error.code))

/** Index of the next attempt after an error, or after an unsuitable server; undefined when the error is final. */
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
  if (error === undefined || error instanceof OldPrimary) return after(false)
  if (error instanceof PostgresRefusal) return undefined
  const state = PostgresFault.stateOf(error)
  // pg_hba.conf may have another rule for the other encryption mode
  if (state === "28000") return attempts[index + 1]?.host === host ? index + 1 : undefined
  // unreachable, starting or stopping: try the next host; a wrong password would be wrong there too
  return state === undefined
    ? after(!isUnreachable(error))
    : /^(08|57P)/.test(state)
    ? after(false)
    : undefined
}

/** The error for a server whose session is not of the required kind. */
export const unsuited = (wants: WantedSession) => {
  const asked = `but target_session_attrs=${wants}`
  return wants === "read-write" || wants === "primary"
    ? new PostgresReadOnly(`is ${wants === "primary" ? "a standby" : "read-only"}, ${asked}`)
    : new Error(`is ${wants === "standby" ? "no standby" : "not read-only"}, ${asked}`)
}

/** The failures of all hosts in one error, with the code of the last. */
export const summary = (failures: ReadonlyArray<string>, last: Error) =>
  Object.assign(
    last instanceof PostgresRefusal ? new PostgresRefusal(failures.join("; ")) : new Error(failures.join("; ")),
    "code" in last ? { code: last.code } : {}
  )
