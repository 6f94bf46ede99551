import type { Duration, Either } from "effect"
import { Effect, Redacted } from "effect"
import { spawn } from "node:child_process"
import type { Secret } from "./Secret.js"
import { SecretUnreadable } from "./Secret.js"

/** A secret is short: longer output is a mistake. */
const mostBytes = 64 * 1024

interface Ended {
  readonly output: string
  readonly problem: string | undefined
}

/** Runs a shell command and collects its standard output. An interruption kills it with the programs that it started. */
const run = (command: string) =>
  Effect.async<Ended>((resume) => {
    let output = ""
    // a group of its own, so that its children end with it; its error output may show the secret
    const child = spawn("/bin/sh", ["-c", command], { detached: true, stdio: ["ignore", "pipe", "ignore"] })
    const kill = () => {
      try {
        if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL")
      } catch {
        // it has ended
      }
    }
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      output += text
      if (output.length <= mostBytes) return
      kill()
      resume(Effect.succeed({ output: "", problem: `printed more than ${mostBytes} bytes` }))
    })
    child.on("error", (error) => resume(Effect.succeed({ output: "", problem: `cannot run: ${error.message}` })))
    child.on("close", (code, signal) => {
      const problem = code === 0 ? undefined : signal === null ? `ended with exit code ${code}` : `ended with ${signal}`
      resume(Effect.succeed({ output, problem }))
    })
    return Effect.sync(kill)
  })

/**
 * The secret that a shell command prints. Each `get` is answered by a run that begins after it: callers that come during a
 * run share the next one, so that two runs never overlap. A failed run is `SecretUnreadable`, which shows no output.
 */
export const make = ({ command, limit, variable }: {
  /** Names the command in errors. */
  readonly variable: string
  readonly command: string
  readonly limit: Duration.DurationInput
}): Secret => {
  const failed = (problem: string) => new SecretUnreadable({ variable, problem })
  const once = run(command).pipe(
    Effect.timeoutFail({ duration: limit, onTimeout: () => failed("did not end in time") }),
    Effect.flatMap(({ output, problem }) => {
      if (problem !== undefined) return failed(problem)
      const secret = output.replace(/[\r\n]+$/, "")
      return secret === "" ? failed("printed nothing") : Effect.succeed(Redacted.make(secret))
    })
  )
  type Result = Promise<Either.Either<Redacted.Redacted, SecretUnreadable>>
  let running: Promise<unknown> = Promise.resolve()
  let next: Result | undefined
  const start = (): Result => {
    next = undefined
    const run = Effect.runPromise(Effect.either(once))
    running = run.catch(() => {})
    return run
  }
  return { get: Effect.flatMap(Effect.promise(() => next ??= running.then(start)), (result) => result) }
}
