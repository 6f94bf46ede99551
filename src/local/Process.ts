import type { CommandExecutor } from "@effect/platform"
import { Command, FileSystem } from "@effect/platform"
import { Effect, Stream } from "effect"
import type { Part } from "./LocalStackError.js"
import { fromPlatform, LocalStackError } from "./LocalStackError.js"
import { dieWithParent } from "./Privileges.js"

export interface Program {
  readonly part: Part
  readonly command: ReadonlyArray<string>
  /** Put before the command: who it runs as. */
  readonly prefix?: ReadonlyArray<string>
  readonly env?: Record<string, string>
  /** Working folder; ours by default. */
  readonly folder?: string
  /** "user" keeps all of the user's environment; by default what would change a server is taken out of it. */
  readonly environment?: "user"
  /** Standard input; empty by default. */
  readonly input?: string
  /** File to which standard output and error are appended. */
  readonly log: string
}

/** How long a process may take to end after it was asked to; what the longest of the three takes, several times over. */
const patience = "5 seconds"

/**
 * Variables by which a user's environment would change what a server does: the client settings of PostgreSQL, of which
 * its server and `initdb` read some, and what Java and the scripts of Kafka add to their command lines.
 */
const foreign: Record<Part, RegExp> = {
  postgres: /^PG[A-Z]+$/,
  redis: /^$/,
  kafka: /^(KAFKA_[A-Z0-9_]+|LOG_DIR|CLASSPATH|JMX_PORT|_JAVA_OPTIONS|JAVA_TOOL_OPTIONS|JDK_JAVA_OPTIONS)$/
}

const unset = (part: Part, kept: Readonly<Record<string, string>>) =>
  // eslint-disable-next-line no-restricted-properties -- names of variables, none of which is read
  Object.keys(process.env).filter((name) => foreign[part].test(name) && !(name in kept))
    .map((name) => `unset ${name}; `).join("")

/** The last lines of a log, for an error message. */
export const tail = Effect.fnUntraced(function*(log: string, lines = 12) {
  const fs = yield* FileSystem.FileSystem
  const text = yield* Effect.orElseSucceed(fs.readFileString(log), () => "")
  return text.trimEnd().split("\n").slice(-lines).map((line) => `  ${line}`).join("\n")
})

/** The path of a program on PATH, or nothing. */
export const which = (name: string) =>
  Command.string(Command.make("sh", "-c", "command -v \"$1\"", "sh", name)).pipe(
    Effect.map((path) => path.trim()),
    Effect.orElseSucceed(() => "")
  )

/**
 * Starts a program in a process group of its own, so that Ctrl-C reaches it
 * only through us. When the scope closes the group gets `stop`, and SIGKILL if
 * it is still there after 5 seconds; when we die without closing, Linux sends `stop`.
 */
export const start = Effect.fnUntraced(function*(program: Program, stop: CommandExecutor.Signal) {
  // the shell only opens the files: what it then becomes keeps its pid
  const env = program.env ?? {}
  const redirect = `${
    program.environment === "user" ? "" : unset(program.part, env)
  }log=$1; shift; exec "$@" >> "$log" 2>&1${program.input === undefined ? " < /dev/null" : ""}`
  // a change of user would clear the parent death signal: that comes first
  const words = [...(program.prefix ?? []), ...(yield* dieWithParent(stop)), ...program.command]
  const command = Command.make("sh", "-c", redirect, "sh", program.log, ...words).pipe(
    Command.env(env),
    program.folder === undefined ? (command) => command : Command.workingDirectory(program.folder),
    program.input === undefined ? (command) => command : Command.stdin(Stream.encodeText(Stream.make(program.input)))
  )
  return yield* Command.start(command).pipe(
    Effect.tap((process) =>
      Effect.addFinalizer(() =>
        process.kill(stop).pipe(
          Effect.interruptible,
          Effect.timeout(patience),
          Effect.orElse(() => Effect.timeout(Effect.interruptible(process.kill("SIGKILL")), patience)),
          Effect.ignore
        )
      )
    ),
    Effect.uninterruptible,
    Effect.mapError(fromPlatform(program.part))
  )
})

/** Nothing that deletes data comes before what does not. */
const wayOut = (part: Part) =>
  `Mend what these lines name and try again: the data is kept. Without that data: payments local reset deletes it, of all three servers${
    part === "redis" ? "; what Redis holds is only a shortcut" : ""
  }.`

/** Waits until the program ends, which it should not: fails with the last lines of its log. */
export const ended = Effect.fnUntraced(function*(program: Program, process: CommandExecutor.Process) {
  const how = yield* process.exitCode.pipe(
    Effect.match({ onSuccess: (code) => `exit code ${code}`, onFailure: () => "a signal" })
  )
  return yield* new LocalStackError({
    part: program.part,
    problem: `it ended with ${how}; the last lines of ${program.log}:\n${yield* tail(program.log)}`,
    wayOut: wayOut(program.part)
  })
})

/** Runs a program to its end, which must be a good one. */
export const run = Effect.fnUntraced(function*(program: Program) {
  const process = yield* start(program, "SIGTERM")
  const code = yield* Effect.orElseSucceed(process.exitCode, () => -1)
  if (code !== 0) return yield* ended(program, process)
}, Effect.scoped)
