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

const ofCluster = new Set(["MOVED", "ASK", "CROSSSLOT"])
const clusterHint = "REDIS_URL points to a cluster node; this service needs a Redis without cluster mode"

/** Before version 7, the error of a command in a script is inside another error. */
const inScript = /@user_script: ?\d+: -?([A-Z]+ [^]*)$/

const messageOf = (error: unknown) => {
  if (!(error instanceof Error)) return String(error)
  // an AggregateError of all addresses of a name has a code and no message
  return error.message || ("code" in error ? String(error.code) : error.name)
}

/** Classifies an error of ioredis or of the connection. */
export const problemOf = (error: unknown): Problem => {
  const message = messageOf(error)
  if (!(error instanceof Error) || error.name !== "ReplyError") return { code: "", reason: message, elsewhere: false }
  // the answer to an unknown command quotes its arguments
  const answer = (inScript.exec(message)?.[1] ?? message).replace(/, with args beginning with:[^]*$/, "").trim()
  const code = /^[A-Z]+/.exec(answer)?.[0] ?? "ERR"
  return {
    code,
    reason: ofCluster.has(code) ? `${answer.split(" ")[0]}: ${clusterHint}` : answer,
    elsewhere: failover.has(code)
  }
}
