import * as Pg from "pg"
import { isOutdated } from "./PostgresPrepared.js"

/**
 * What is to be done about an error of the database:
 *
 * - `passing`: run the whole transaction again, now. Contention, or a statement that is to be prepared again.
 * - `read-only`: the server answers and takes no changes. Its connections are renewed until one can write.
 * - `refused`: the server will not have us, or what we need is not there. Somebody has to change a right, a setting, a
 *   table or the URL; at start the process ends with it, later it waits.
 * - `away`: no answer, or the server says that it goes, has no room, or is in trouble. Trying again later may work.
 * - `bug`: a statement that can never succeed.
 */
export type Fault = "passing" | "read-only" | "refused" | "away" | "bug"

/** Found out by this client, before or instead of the server. */
export class PostgresRefusal extends Error {
  override readonly name = "PostgresRefusal"
}

/** The server, or its default, makes every transaction read-only. Has the SQLSTATE of a statement that meets that. */
export class PostgresReadOnly extends Error {
  override readonly name = "PostgresReadOnly"
  readonly code = "25006"
}

/**
 * SQLSTATE by the longest beginning that is named here. Classes are those of
 * https://www.postgresql.org/docs/current/errcodes-appendix.html
 */
const byState: Readonly<Record<string, Fault>> = {
  // a missing feature: of a pooler or of another product (one case of it is passing, see below)
  "0A": "refused",
  "0L": "refused",
  "0P": "refused",
  "21": "bug",
  "22": "bug",
  "23": "bug",
  "24": "bug",
  "25": "bug",
  "25006": "read-only",
  // the server ended the transaction, or the session with it, after a time
  "25P03": "away",
  "25P04": "away",
  // the statement that was prepared is gone
  "26000": "passing",
  "27": "bug",
  "28": "refused",
  "2D": "bug",
  "34": "bug",
  "3B": "bug",
  "3D": "refused",
  "3F": "refused",
  "40": "passing",
  // whether it was committed is not known
  "40003": "away",
  "42": "bug",
  "42501": "refused",
  "42P01": "refused",
  // two of our connections share one of the server: see docs/operations.md, poolers in transaction mode
  "42P05": "refused",
  "44": "bug",
  "55P03": "passing"
  // 08 connection · 53 resources · 54 limits, among them a database that must be vacuumed first · 55 state · 57 operator ·
  // 58 system · F0 configuration · P0 somebody's trigger · XX internal: away
}

/** SQLSTATE, when the server gave one. */
export const stateOf = (cause: unknown): string | undefined =>
  typeof cause === "object" && cause !== null && "code" in cause && typeof cause.code === "string" &&
    /^[0-9A-Z]{5}$/.test(cause.code)
    ? cause.code
    : undefined

/** A certificate that does not do, or a file that is none: by the codes of OpenSSL and Node. */
const isUntrusted = (cause: unknown) =>
  cause instanceof Error && "code" in cause && typeof cause.code === "string" &&
  /^(CERT_|CRL_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO_(GET|VERIFY|DECRYPT|DECODE)|HOSTNAME_MISMATCH|ERR_TLS_CERT|ERR_OSSL_|INVALID_(CA|PURPOSE)|ERR_SSL_TLSV1)/
    .test(cause.code)

/** By code and never by text, which is in the language of the server. */
export const of = (cause: unknown): Fault => {
  if (isOutdated(cause)) return "passing"
  if (cause instanceof PostgresRefusal || isUntrusted(cause)) return "refused"
  const state = stateOf(cause)
  if (state === undefined) return "away"
  return byState[state] ?? byState[state.slice(0, 2)] ?? "away"
}

/** Who was refused, where the server's own words do not say it. Set on the errors of a connection. */
export interface WithRole {
  readonly role?: string
}

/** What went wrong, for an operator: the words of the server, who we are to it, and the SQLSTATE. */
export const explain = (cause: unknown): string => {
  const error = cause instanceof Error ? cause : new Error(String(cause))
  // one that was refused at every address of a name says so by its code only
  const words = error.message || ("code" in error ? String(error.code) : error.name)
  if (!(error instanceof Pg.DatabaseError)) return words
  const { code, role } = error as WithRole & { readonly code?: string }
  const details = [...(role === undefined ? [] : [`role ${role}`]), ...(code === undefined ? [] : [`SQLSTATE ${code}`])]
  return details.length === 0 ? words : `${words} (${details.join(", ")})`
}
