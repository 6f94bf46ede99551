import type { CommandExecutor } from "@effect/platform"
import { Command, FileSystem } from "@effect/platform"
import { Effect, Option } from "effect"
import { LocalStackError } from "./LocalStackError.js"

export interface User {
  readonly uid: number
  readonly gid: number
}

/** The user `nobody` of Linux distributions: initdb needs a user of the user database. */
const nobody: User = { uid: 65534, gid: 65534 }

/** Capabilities that traverse closed folders: the smaller one first, but containers often grant only the other. Bits as in linux/capability.h. */
const traversal = [{ name: "dac_read_search", bit: 2n }, { name: "dac_override", bit: 1n }] as const

const hasSetpriv = Command.make("setpriv", "--pdeathsig", "SIGKILL", "--", "sh", "-c", ":").pipe(
  Command.exitCode,
  Effect.map((code) => code === 0),
  Effect.orElseSucceed(() => false)
)

/**
 * A command prefix with which Linux sends `signal` to the command when this process dies in any way. Empty where `setpriv`
 * (util-linux) is missing.
 */
export const dieWithParent = (signal: CommandExecutor.Signal) =>
  Effect.map(hasSetpriv, (yes): ReadonlyArray<string> => yes ? ["setpriv", "--pdeathsig", signal, "--"] : [])

/**
 * The user for a server that refuses root: the owner of its data, or `nobody` when the data is new or belongs to root. None
 * when this process is not root.
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
 * A command prefix that runs the command as `user`, with the one capability to traverse closed folders, because the checkout
 * may lie in one. Fails where `setpriv` is missing.
 */
export const runAs = Effect.fnUntraced(function*(user: User) {
  if (!(yield* hasSetpriv)) {
    return yield* new LocalStackError({
      part: "postgres",
      problem: "PostgreSQL refuses to run as root, and setpriv (util-linux) is missing to run it as another user",
      wayOut: "Run this as a normal user, set DATABASE_URL to a database of yours, or start one: docker compose up"
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
      // without this access(2), which PostgreSQL uses to check its binary, ignores the capability
      "--securebits=+no_setuid_fixup",
      `--inh-caps=+${capability.name}`,
      `--ambient-caps=+${capability.name}`
    ]),
    "--"
  ]
})
