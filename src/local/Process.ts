import type { CommandExecutor } from "@effect/platform"
import { Command, FileSystem } from "@effect/platform"
import { Effect, Stream } from "effect"
import type { Part } from "./LocalStackError.js"
import { fromPlatform, LocalStackError } from "./LocalStackError.js"
import { dieWithParent } from "./Privileges.js"

export interface Program {
  readonly part: Part
  readonly command: ReadonlyArray<string>
  /** Prefix of the command that sets its user. */
  readonly prefix?: ReadonlyArray<string>
  readonly env?: Record<string, string>
  /** Working folder; that of this process by default. */
  readonly folder?: string
  /** "user" keeps the whole environment; by default variables that would change a server are removed. */
  readonly environment?: "user"
  /** Standard input; empty by default. */
  readonly input?: string
  /** File to which standard output and error are appended. */
  readonly log: string
}

/** Time between the stop signal and SIGKILL: several times what the slowest of the three servers needs. */
const killAfter = "5 seconds"

/**
 * Variables that would change a server: the client settings of PostgreSQL, some of which its server and `initdb` read, and
 * those that Java and the scripts of Kafka add to their command lines.
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

/** The path of a program on PATH, or an empty text. */
export const which = (name: string) =>
  Command.string(Command.make("sh", "-c", "command -v \"$1\"", "sh", name)).pipe(
    Effect.map((path) => path.trim()),
    Effect.orElseSucceed(() => "")
  )

/**
 * Starts a program in its own process group, so that Ctrl-C does not reach it directly. When the scope closes, the group gets
 * `stop`, and SIGKILL if it still runs after 5 seconds. If this process dies without closing, Linux sends `stop`.
 */
export const start = Effect.fnUntraced(function*(program: Program, stop: CommandExecutor.Signal) {
  // the shell opens the files and then becomes the program, which keeps its pid
  const env = program.env ?? {}
  const redirect = `${
    program.environment === "user" ? "" : unset(program.part, env)
  }log=$1; shift; exec "$@" >> "$log" 2>&1${program.input === undefined ? " < /dev/null" : ""}`
  // changing the user clears the parent death signal, so it comes first
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
          Effect.timeout(killAfter),
          Effect.orElse(() => Effect.timeout(Effect.interruptible(process.kill("SIGKILL")), killAfter)),
          Effect.ignore
        )
      )
    ),
    Effect.uninterruptible,
    Effect.mapError(fromPlatform(program.part))
  )
})

/** Advice for a server that ended. The advice that keeps the data comes first. */
const wayOut = (part: Part) =>
  `Correct the problem in these lines and try again; the data is kept. To delete the data of all three servers: payments local reset${
    part === "redis" ? " (the data of Redis is only a cache)" : ""
  }.`

/** Fails with the last lines of the log when the program ends. */
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

/** The error of a server that runs and does not answer in time, with the last lines of its log. */
export const silent = Effect.fnUntraced(function*({ log, part }: Program, port: number) {
  return new LocalStackError({
    part,
    problem: `it runs but does not answer on port ${port}; the last lines of ${log}:\n${yield* tail(log)}`,
    wayOut: "Try again: a busy machine or disk may have delayed it."
  })
})

/** Runs a program to its end. Fails unless its exit code is 0. */
export const run = Effect.fnUntraced(function*(program: Program) {
  const process = yield* start(program, "SIGTERM")
  const code = yield* Effect.orElseSucceed(process.exitCode, () => -1)
  if (code !== 0) return yield* ended(program, process)
}, Effect.scoped)
