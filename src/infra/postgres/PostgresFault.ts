import * as Pg from "pg"
import * as Tls from "../tls/Tls.js"
import { isOutdated } from "./PostgresPrepared.js"

/**
 * Kind of a database error, by the reaction that it needs:
 *
 * - `passing`: contention or an outdated prepared statement. Run the whole transaction again at once.
 * - `read-only`: the server answers but takes no changes. Renew the connections until one can write.
 * - `refused`: the server refuses the service, or a needed object is missing. An operator has to change a right, a setting, a
 *   table or the URL. The process ends with it at start, and waits later.
 * - `away`: no answer, or the server stops, has no resources or is in trouble. A later attempt may succeed.
 * - `bug`: the statement can never succeed.
 */
export type Fault = "passing" | "read-only" | "refused" | "away" | "bug"

/** A refusal that this client finds, and not the server. */
export class PostgresRefusal extends Error {
  override readonly name = "PostgresRefusal"
}

/** All transactions of the server are read-only. Has the SQLSTATE of a write in a read-only transaction. */
export class PostgresReadOnly extends Error {
  override readonly name = "PostgresReadOnly"
  readonly code = "25006"
}

/**
 * Kinds by SQLSTATE or its class, the first two characters. Source:
 * https://www.postgresql.org/docs/current/errcodes-appendix.html
 */
const byState: Readonly<Record<string, Fault>> = {
  // a pooler or another product lacks a feature (`isOutdated` is the exception)
  "0A": "refused",
  "0L": "refused",
  "0P": "refused",
  "21": "bug",
  "22": "bug",
  "23": "bug",
  "24": "bug",
  "25": "bug",
  "25006": "read-only",
  // the server ended an idle or long transaction with its session
  "25P03": "away",
  "25P04": "away",
  // the prepared statement is gone
  "26000": "passing",
  "27": "bug",
  "28": "refused",
  "2D": "bug",
  "34": "bug",
  "3B": "bug",
  "3D": "refused",
  "3F": "refused",
  "40": "passing",
  // unknown whether the transaction was committed
  "40003": "away",
  "42": "bug",
  "42501": "refused",
  "42P01": "refused",
  // two connections share a session of the server: see docs/postgresql.md, poolers in transaction mode
  "42P05": "refused",
  "44": "bug",
  "55P03": "passing"
  // 08 connection · 53 resources · 54 limits, among them a database that must be vacuumed first · 55 state · 57 operator ·
  // 58 system · F0 configuration · P0 a trigger's error · XX internal: away
}

/** SQLSTATE of an error; undefined when it has none. */
export const stateOf = (cause: unknown): string | undefined =>
  typeof cause === "object" && cause !== null && "code" in cause && typeof cause.code === "string" &&
    /^[0-9A-Z]{5}$/.test(cause.code)
    ? cause.code
    : undefined

/** True for an untrusted certificate or an invalid PEM file, by the codes of OpenSSL and Node. */
const isUntrusted = (cause: unknown) =>
  cause instanceof Error && "code" in cause && typeof cause.code === "string" && (Tls.faultOf(cause) !== undefined ||
    /^(CERT_|CRL_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO_(GET|VERIFY|DECRYPT|DECODE)|HOSTNAME_MISMATCH|ERR_TLS_CERT|ERR_OSSL_|INVALID_(CA|PURPOSE)|ERR_SSL_TLSV1)/
      .test(cause.code))

/** Classifies an error by its code, because texts are in the server's language. */
export const of = (cause: unknown): Fault => {
  if (isOutdated(cause)) return "passing"
  if (cause instanceof PostgresRefusal || isUntrusted(cause)) return "refused"
  const state = stateOf(cause)
  if (state === undefined) return "away"
  return byState[state] ?? byState[state.slice(0, 2)] ?? "away"
}

/** What a connection adds to its errors. */
export interface Annotations {
  /** Its role, because the server's text may not name it. */
  readonly role?: string
  /** What an operator can change. */
  readonly advice?: string
}

/** Text for operators: the server's message, the role, the SQLSTATE and the advice. */
export const explain = (cause: unknown): string => {
  const error = cause instanceof Error ? cause : new Error(String(cause))
  const { advice, code, role } = error as Annotations & { readonly code?: string }
  // an AggregateError of all addresses of a name has a code and no message
  const words = Tls.explain(error) ?? (error.message || (code === undefined ? error.name : String(code)))
  const details = error instanceof Pg.DatabaseError
    ? [...(role === undefined ? [] : [`role ${role}`]), ...(code === undefined ? [] : [`SQLSTATE ${code}`])]
    : []
  const problem = details.length === 0 ? words : `${words} (${details.join(", ")})`
  return advice === undefined ? problem : `${problem}: ${advice}`
}
