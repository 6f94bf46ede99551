import * as Tls from "../tls/Tls.js"

/** Reason of a failed Redis command or connection. */
export interface Problem {
  /** Error code, the first word of the server's answer; empty without an answer. */
  readonly code: string
  /** For operators: contains no command and no argument. */
  readonly reason: string
  /** True when another server may succeed, which a new connection to the same address may find. */
  readonly elsewhere: boolean
}

/** What the reason of a problem depends on. */
export interface Place {
  /** Connections are encrypted. */
  readonly tls: boolean
  /** `REDIS_URL` names Sentinels. */
  readonly sentinels: boolean
}

/**
 * Error codes of a server that is not a usable primary: after a failover, a new connection finds the right one. For other
 * codes (disk or memory full, missing permission) a new connection would find the same server.
 */
const failover = new Set(["READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "NOREPLICAS"])

const ofCluster = new Set(["MOVED", "ASK", "CROSSSLOT", "CLUSTERDOWN"])
const clusterHint = "REDIS_URL points to a cluster node; this service needs a Redis without cluster mode"

/** A Sentinel speaks the protocol of Redis, and knows none of the commands for keys. A Redis may have them renamed. */
const ofUnknown = /^ERR unknown command/
const unknownHint = "REDIS_URL points to a Sentinel, or to a Redis with `rename-command`? " +
  "For a Sentinel write redis+sentinel://host:port/name of the primary; a Redis needs MGET, EVAL and SET"

/** What an operator can change, by error code. */
const advice: Readonly<Record<string, string>> = {
  WRONGPASS: "check the user in REDIS_URL, and the password in REDIS_URL, REDIS_PASSWORD or REDIS_PASSWORD_FILE",
  NOAUTH: "set REDIS_PASSWORD_FILE or REDIS_PASSWORD, or write the password into REDIS_URL",
  NOPERM: "allow the user in REDIS_URL ~payments:inventory:* +mget +eval +set"
}

/** The same for the answers of a Sentinel. */
const sentinelAdvice: Readonly<Record<string, string>> = {
  WRONGPASS: "check sentinel_password in REDIS_URL",
  NOAUTH: "add ?sentinel_password=… to REDIS_URL"
}

const schemes = ({ sentinels }: Place) =>
  sentinels ? { plain: "redis+sentinel://", secure: "rediss+sentinel://" } : { plain: "redis://", secure: "rediss://" }

const ofTls = (place: Place): Readonly<Record<Tls.Fault, string>> => ({
  authority: "set REDIS_TLS_CA to the file of its authority",
  validity: "renew it at the server, or set the clock of this host",
  name: place.sentinels
    ? "it must be for the host of a Sentinel in REDIS_URL, or for the address of the primary that Sentinels tell"
    : "write a name of the certificate as host in REDIS_URL",
  plaintext: `write ${schemes(place).plain} in REDIS_URL, or the port for TLS`,
  "client certificate": "set REDIS_TLS_CERT and REDIS_TLS_KEY"
})

/** Before version 7, the error of a command in a script is inside another error. */
const inScript = /@user_script: ?\d+: -?([A-Z]+ [^]*)$/

/** The answer to an unknown command quotes its arguments. */
const withoutArguments = (answer: string) => answer.replace(/, with args beginning with:[^]*$/, "").trim()

const messageOf = (error: unknown) => {
  if (!(error instanceof Error)) return String(error)
  // an AggregateError of all addresses of a name has a code and no message
  return error.message || ("code" in error ? String(error.code) : error.name)
}

/** The reason of an error that is no answer of the server. */
const unanswered = (error: unknown, message: string, place: Place) => {
  const { secure } = schemes(place)
  const fault = Tls.faultOf(error)
  if (fault !== undefined) return `${Tls.explain(error)}: ${ofTls(place)[fault]}`
  // the first byte of a TLS alert, in place of an answer
  if (/^Protocol error, got "\\u0015"/.test(message)) {
    return `the server speaks TLS at this port: write ${secure} in REDIS_URL`
  }
  if (place.tls && message.includes("ETIMEDOUT")) {
    return `${message} (a server without TLS at the port of REDIS_URL does not answer either)`
  }
  return !place.tls && /ECONNRESET|Connection is closed/.test(message)
    ? `${message} (a server with TLS at this port closes connections too: then write ${secure} in REDIS_URL)`
    : message
}

/** An answer, and what an operator can change. */
const advised = (answer: string, code: string, advice: Readonly<Record<string, string>>) =>
  advice[code] === undefined ? answer : `${answer.replace(/\.$/, "")}: ${advice[code]}`

const codeOf = (answer: string) => /^[A-Z]+/.exec(answer)?.[0] ?? "ERR"

const ofSentinel = (error: unknown, place: Place) => {
  const message = messageOf(error)
  if (!(error instanceof Error) || error.name !== "ReplyError") return unanswered(error, message, place)
  const answer = withoutArguments(message)
  return ofUnknown.test(answer)
    ? `${answer}: it is a Redis, and no Sentinel`
    : advised(answer, codeOf(answer), sentinelAdvice)
}

/** No Sentinel led to the primary. */
export class NoPrimary extends Error {
  constructor(sentinels: ReadonlyArray<{ readonly at: string; readonly error: unknown }>, tls: boolean) {
    super(sentinels.map(({ at, error }) => `${at}: ${ofSentinel(error, { tls, sentinels: true })}`).join("; "))
  }
}

/** Classifies an error of ioredis or of the connection. */
export const problemOf = (error: unknown, place: Place = { tls: false, sentinels: false }): Problem => {
  if (error instanceof NoPrimary) {
    return { code: "SENTINEL", reason: `no Sentinel leads to the primary: ${error.message}`, elsewhere: false }
  }
  const text = messageOf(error)
  // the first command of a connection fails under this name
  const message = text.replace(/^Ready check failed: /, "")
  if (!(error instanceof Error) || (error.name !== "ReplyError" && message === text)) {
    return { code: "", reason: unanswered(error, message, place), elsewhere: false }
  }
  const answer = withoutArguments(inScript.exec(message)?.[1] ?? message)
  const code = codeOf(answer)
  return {
    code,
    reason: ofCluster.has(code)
      ? `${code}: ${clusterHint}`
      : ofUnknown.test(answer)
      ? `${answer}: ${unknownHint}`
      : advised(answer, code, advice),
    elsewhere: failover.has(code)
  }
}
