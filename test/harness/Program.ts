import type { Scope } from "effect"
import { Deferred, Effect, Exit, FiberId } from "effect"
import { spawn } from "node:child_process"
import { tmpdir } from "node:os"
import { fileURLToPath } from "node:url"
import { eventually } from "./Eventually.js"
import { freePort } from "./FreePort.js"

/** This program. */
const current = fileURLToPath(new URL("../../dist/bin/payments.js", import.meta.url))
/** `npm run nodes` runs the program under other Nodes than the tests. */
const node = process.env["PROGRAM_NODE"] ?? process.execPath
/** A deprecated call ends the program, and so fails its test. */
const flags = ["--throw-deprecation"]

export type Environment = Readonly<Record<string, string>>

/** How a process ended: one of the two is null. */
export interface Ended {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

/** The compiled program as a process of its own. */
export interface Program {
  readonly pid: number
  readonly stdout: () => string
  readonly stderr: () => string
  readonly ended: Effect.Effect<Ended>
  readonly signal: (name: NodeJS.Signals) => Effect.Effect<void>
  /** Closes the reading ends of standard output and standard error. */
  readonly hangUp: Effect.Effect<void>
}

/**
 * Starts the program outside of the checkout with only this environment. Kills it when the scope closes. `main` is the file of
 * another version.
 */
export const start = (
  args: ReadonlyArray<string>,
  env: Environment,
  main = current
): Effect.Effect<Program, never, Scope.Scope> => startCommand(node, [...flags, main, ...args], env)

/** Runs a shell command to its end, in which `payments` is the program. */
export const shell = (line: string, env: Environment) => {
  const program = `payments() { "${node}" ${flags.join(" ")} "${current}" "$@"; }`
  return toItsEnd(startCommand("sh", ["-c", `${program}\n${line}`], env))
}

const startCommand = (
  command: string,
  args: ReadonlyArray<string>,
  env: Environment
): Effect.Effect<Program, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const child = spawn(command, args, {
        cwd: tmpdir(),
        env: { PATH: process.env["PATH"], ...env },
        stdio: ["ignore", "pipe", "pipe"]
      })
      const ended = Deferred.unsafeMake<Ended>(FiberId.none)
      let stdout = ""
      let stderr = ""
      child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text))
      child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text))
      child.on("close", (code, signal) => Deferred.unsafeDone(ended, Exit.succeed({ code, signal })))
      return {
        pid: child.pid!,
        stdout: () => stdout,
        stderr: () => stderr,
        ended: Deferred.await(ended),
        signal: (name: NodeJS.Signals) => Effect.sync(() => void child.kill(name)),
        hangUp: Effect.sync(() => {
          child.stdout.destroy()
          child.stderr.destroy()
        })
      }
    }),
    (program, exit) =>
      program.signal("SIGKILL").pipe(
        Effect.zipRight(program.ended),
        Effect.zipRight(Effect.sync(() => {
          // the log of the program explains a failed test
          if (Exit.isFailure(exit)) process.stderr.write(`the program ${args.join(" ")} said:\n${program.stderr()}\n`)
        }))
      )
  )

/** Runs the program to its end. */
export const run = (args: ReadonlyArray<string>, env: Environment) => toItsEnd(start(args, env))

const toItsEnd = (starting: Effect.Effect<Program, never, Scope.Scope>) =>
  Effect.gen(function*() {
    const program = yield* starting
    const { code } = yield* program.ended.pipe(Effect.timeout("60 seconds"))
    return { code, stdout: program.stdout(), stderr: program.stderr() }
  }).pipe(Effect.scoped)

export interface Answer {
  readonly status: number
  readonly body: string
}

/** The body of /readyz. */
export interface Readiness {
  readonly ready: boolean
  readonly dependencies: Readonly<
    Record<string, { readonly ok: boolean; readonly required: boolean; readonly reason?: string }>
  >
}

/** The running services. */
export interface Services extends Program {
  /** `host:port` of the gRPC server. */
  readonly grpc: string
  /** Port of operations HTTP. */
  readonly httpPort: number
  /** Requests this path of operations HTTP. */
  readonly get: (path: string) => Effect.Effect<Answer>
  readonly readiness: Effect.Effect<Readiness>
  /** Ends when /readyz is 200. If the program ends first, dies with its log. */
  readonly untilReady: Effect.Effect<void>
  /** The sum of a metric over all label sets that contain `labels`; 0 when there is none yet. */
  readonly metric: (name: string, labels?: string) => Effect.Effect<number>
}

/** Starts `payments serve` with these parts (none: all) on free ports. Does not wait until it is ready. */
export const serve = Effect.fnUntraced(function*(parts: ReadonlyArray<string>, env: Environment, main?: string) {
  const grpc = `127.0.0.1:${yield* freePort}`
  const http = `127.0.0.1:${yield* freePort}`
  const program = yield* start(["serve", ...parts], { GRPC_ADDR: grpc, HTTP_ADDR: http, ...env }, main)

  const get = (path: string): Effect.Effect<Answer> =>
    Effect.promise(async (signal) => {
      const response = await fetch(`http://${http}${path}`, { signal })
      return { status: response.status, body: await response.text() }
    })
  const endedTooSoon = Effect.flatMap(
    program.ended,
    ({ code }) => Effect.dieMessage(`the program ended with ${code}, and said:\n${program.stderr()}`)
  )

  return {
    ...program,
    grpc,
    httpPort: Number(http.split(":")[1]),
    get,
    readiness: Effect.map(get("/readyz"), ({ body }) => JSON.parse(body) as Readiness),
    untilReady: get("/readyz").pipe(
      Effect.filterOrDieMessage(({ status }) => status === 200, "not ready"),
      eventually("90 seconds"),
      Effect.asVoid,
      Effect.raceFirst(endedTooSoon)
    ),
    metric: (name: string, labels = "") =>
      Effect.map(get("/metrics"), ({ body }) =>
        body.split("\n")
          .map((line) => /^(\w+)(\{.*\})? (\S+)/.exec(line))
          .filter((match) => match?.[1] === name && (match[2] ?? "").includes(labels))
          .reduce((sum, match) => sum + Number(match![3]), 0))
  } satisfies Services
})
