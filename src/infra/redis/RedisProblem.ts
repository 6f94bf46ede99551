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

/** What ioredis says when no Sentinel leads to a primary. */
const ofSentinels = /^All sentinels are unreachable.*Last error: ([^]*)$/

/** The reason why no Sentinel leads to a primary. ioredis does not say why it has no connection to one. */
const unled = (last: string, encrypted: boolean) => {
  const why = withoutArguments(last).replace(/\.$/, "")
  if (why === "Connection is closed") {
    return `no Sentinel takes the connection: none is there, or ${
      encrypted
        ? "they are without TLS, or a certificate is not accepted: check REDIS_URL and REDIS_TLS_CA"
        : "they speak TLS: then write rediss+sentinel:// in REDIS_URL"
    }`
  }
  const wayOut = /^(NOAUTH|WRONGPASS)/.test(why)
    ? ": write ?sentinel_password=… into REDIS_URL"
    : /^ERR No such master/.test(why)
    ? ": check the name of the primary in REDIS_URL"
    : ofUnknown.test(why)
    ? ": REDIS_URL has the address of a Redis instead of a Sentinel"
    : ""
  return `no Sentinel leads to the primary: ${why}${wayOut}`
}

/** What an operator can change, by error code. */
const advice: Readonly<Record<string, string>> = {
  WRONGPASS: "check the user in REDIS_URL, and the password in REDIS_URL, REDIS_PASSWORD or REDIS_PASSWORD_FILE",
  NOAUTH: "set REDIS_PASSWORD_FILE or REDIS_PASSWORD, or write the password into REDIS_URL",
  NOPERM: "allow the user in REDIS_URL ~payments:inventory:* +mget +eval +set"
}

const ofTls: Readonly<Record<Tls.Fault, string>> = {
  authority: "set REDIS_TLS_CA to the file of its authority",
  validity: "renew it at the server, or set the clock of this host",
  name: "write a name of the certificate as host in REDIS_URL",
  plaintext: "write redis:// in REDIS_URL, or the port for TLS",
  "client certificate": "set REDIS_TLS_CERT and REDIS_TLS_KEY"
}

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
const unanswered = (error: unknown, message: string, encrypted: boolean) => {
  const led = ofSentinels.exec(message)
  if (led !== null) return unled(led[1]!, encrypted)
  const fault = Tls.faultOf(error)
  if (fault !== undefined) return `${Tls.explain(error)}: ${ofTls[fault]}`
  // the first byte of a TLS alert, in place of an answer
  if (/^Protocol error, got "\\u0015"/.test(message)) {
    return "the server speaks TLS at this port: write rediss:// in REDIS_URL"
  }
  if (encrypted && message.includes("ETIMEDOUT")) {
    return `${message} (a server without TLS at the port of REDIS_URL does not answer either)`
  }
  return !encrypted && /ECONNRESET|Connection is closed/.test(message)
    ? `${message} (a server with TLS at this port closes connections too: then write rediss:// in REDIS_URL)`
    : message
}

/** Classifies an error of ioredis or of the connection. `encrypted`: the connection uses TLS. */
export const problemOf = (error: unknown, encrypted = false): Problem => {
  const text = messageOf(error)
  // the first command of a connection fails under this name
  const message = text.replace(/^Ready check failed: /, "")
  if (!(error instanceof Error) || (error.name !== "ReplyError" && message === text)) {
    return { code: "", reason: unanswered(error, message, encrypted), elsewhere: false }
  }
  const answer = withoutArguments(inScript.exec(message)?.[1] ?? message)
  const code = /^[A-Z]+/.exec(answer)?.[0] ?? "ERR"
  return {
    code,
    reason: ofCluster.has(code)
      ? `${code}: ${clusterHint}`
      : ofUnknown.test(answer)
      ? `${answer}: ${unknownHint}`
      : advice[code] === undefined
      ? answer
      : `${answer.replace(/\.$/, "")}: ${advice[code]}`,
    elsewhere: failover.has(code)
  }
}
