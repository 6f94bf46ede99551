/** Why Redis does not do what it was asked for. */
export interface Problem {
  /** The first word of what the server answered; empty when it did not answer. */
  readonly code: string
  /** For operators: nothing of a command or its arguments. */
  readonly reason: string
  /** Another server may do it, to which the same address may lead by now. */
  readonly elsewhere: boolean
}

/**
 * Answers of a server that is no primary any more, is not one yet, or has lost the others: after a failover a new
 * connection finds the right one. For the rest (disk or memory full, no right) it would find the same.
 */
const failover = new Set(["READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "NOREPLICAS"])

const ofCluster = new Set(["MOVED", "ASK", "CROSSSLOT"])
const clusterHint = "REDIS_URL leads to a node of a cluster, and one Redis without cluster mode is needed"

/** Before version 7 what a command in a script fails with is inside of another error. */
const inScript = /@user_script: ?\d+: -?([A-Z]+ [^]*)$/

const messageOf = (error: unknown) => {
  if (!(error instanceof Error)) return String(error)
  // one that was refused at every address of a name says so by its code only
  return error.message || ("code" in error ? String(error.code) : error.name)
}

/** What an error of ioredis, or of the connection, says. */
export const problemOf = (error: unknown): Problem => {
  const message = messageOf(error)
  if (!(error instanceof Error) || error.name !== "ReplyError") return { code: "", reason: message, elsewhere: false }
  // a command that is unknown is answered with its arguments
  const said = (inScript.exec(message)?.[1] ?? message).replace(/, with args beginning with:[^]*$/, "").trim()
  const code = /^[A-Z]+/.exec(said)?.[0] ?? "ERR"
  return {
    code,
    reason: ofCluster.has(code) ? `${said.split(" ")[0]}: ${clusterHint}` : said,
    elsewhere: failover.has(code)
  }
}
