import type { CommandExecutor } from "@effect/platform"
import { Command, FileSystem } from "@effect/platform"
import { Effect, Option } from "effect"
import { LocalStackError } from "./LocalStackError.js"

export interface User {
  readonly uid: number
  readonly gid: number
}

/** The user `nobody` of Linux distributions: initdb wants a user that the user database knows. */
const nobody: User = { uid: 65534, gid: 65534 }

/** To traverse and read is enough, but containers often grant only the other. Bits as in linux/capability.h. */
const traversal = [{ name: "dac_read_search", bit: 2n }, { name: "dac_override", bit: 1n }] as const

const hasSetpriv = Command.make("setpriv", "--pdeathsig", "SIGKILL", "--", "sh", "-c", ":").pipe(
  Command.exitCode,
  Effect.map((code) => code === 0),
  Effect.orElseSucceed(() => false)
)

/**
 * What to put before a command so that Linux sends it `signal` when this
 * process dies, in whatever way. Nothing where `setpriv` (util-linux) is not there.
 */
export const dieWithParent = (signal: CommandExecutor.Signal) =>
  Effect.map(hasSetpriv, (yes): ReadonlyArray<string> => yes ? ["setpriv", "--pdeathsig", signal, "--"] : [])

/**
 * The user for a server that refuses root: the owner of its data, or `nobody`
 * when that is new or root's. None when this process is not root.
 */
export const unprivileged = Effect.fnUntraced(function*(data: string) {
  if (process.getuid?.() !== 0) return Option.none<User>()
  const fs = yield* FileSystem.FileSystem
  const owner = yield* fs.stat(data).pipe(
    Effect.map((info) => Option.all({ uid: info.uid, gid: info.gid })),
    Effect.orElseSucceed(() => Option.none<User>())
  )
  return Option.some(owner.pipe(Option.filter(({ uid }) => uid !== 0), Option.getOrElse(() => nobody)))
})

/**
 * What to put before a command so that it runs as `user`, and keeps of root's
 * rights only the one to traverse folders that are closed to others: the
 * checkout may lie in one. Fails where `setpriv` is missing.
 */
export const runAs = Effect.fnUntraced(function*(user: User) {
  if (!(yield* hasSetpriv)) {
    return yield* new LocalStackError({
      part: "postgres",
      problem: "PostgreSQL refuses to run as root, and setpriv (util-linux) is not there to run it as another user",
      wayOut: "Run this as a normal user, set DATABASE_URL to a database you have, or start one: docker compose up"
    })
  }
  const fs = yield* FileSystem.FileSystem
  const status = yield* Effect.orElseSucceed(fs.readFileString("/proc/self/status"), () => "")
  const held = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? "0"}`)
  const capability = traversal.find(({ bit }) => (held >> bit & 1n) === 1n)
  return [
    "setpriv",
    `--reuid=${user.uid}`,
    `--regid=${user.gid}`,
    "--clear-groups",
    ...(capability === undefined ? [] : [
      // else access(2), with which PostgreSQL looks at its own binary, ignores the capability
      "--securebits=+no_setuid_fixup",
      `--inh-caps=+${capability.name}`,
      `--ambient-caps=+${capability.name}`
    ]),
    "--"
  ]
})
