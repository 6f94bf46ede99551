import { Console, Deferred, Effect, FiberId, Metric, Schema } from "effect"
import { closeSync, constants, fstatSync, openSync } from "node:fs"
import { format } from "node:util"

/** Standard output takes nothing more, though somebody reads it: the disk is full, say. */
export class OutputFailed extends Schema.TaggedError<OutputFailed>()("OutputFailed", { cause: Schema.Defect }) {
  override get message() {
    return `what was to be printed cannot be written: ${this.cause instanceof Error ? this.cause.message : this.cause}`
  }
}

type Failure = NodeJS.ErrnoException | null | undefined

/** Whoever read it has gone: `head` has its lines, or the terminal is closed. */
const isGone = (stream: NodeJS.WriteStream, error: Failure) =>
  error?.code === "EPIPE" || (error?.code === "EIO" && stream.isTTY)

const gone = Deferred.unsafeMake<void>(FiberId.none)

const ignore = () => {}

/**
 * Prepares both streams, once. Without a listener an error of a stream would end the process. A terminal that is held
 * (Ctrl-S) would hold the whole process at the next line of the log.
 */
export const prepare = () => {
  process.stdout.on("error", ignore)
  process.stderr.on("error", ignore)
  if (process.stderr.isTTY) {
    const { _handle } = process.stderr as { _handle?: { readonly setBlocking?: (blocking: boolean) => unknown } }
    _handle?.setBlocking?.(false)
  }
}

/** Writes a line to standard error and ends when it is written, or has failed. */
export const tell = (line: string) =>
  Effect.async<void>((resume) => void process.stderr.write(`${line}\n`, () => resume(Effect.void)))

/**
 * Writes to standard output and ends when it is written: a slow reader is waited for. One that has gone wants no more, and
 * that is no failure.
 */
const write = (text: string) =>
  Effect.async<void, OutputFailed>((resume) => {
    process.stdout.write(text, (error: Failure) => {
      if (error === null || error === undefined) return resume(Effect.void)
      if (!isGone(process.stdout, error)) return resume(new OutputFailed({ cause: error }))
      Deferred.unsafeDone(gone, Effect.void)
      resume(Effect.void)
    })
  })

/** The reader of a pipe has gone. Linux tells it also to a process that has nothing to write, where the pipe is opened again. */
const pipeIsLeft = Effect.sync(() => {
  if (process.platform !== "linux" || !fstatSync(1).isFIFO()) return false
  try {
    closeSync(openSync("/proc/self/fd/1", constants.O_WRONLY | constants.O_NONBLOCK))
    return false
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ENXIO"
  }
})

/** Ends when nobody reads standard output any more: seen at the next line, and without one on Linux within a second. */
export const readerGone: Effect.Effect<void> = Effect.raceFirst(
  Deferred.await(gone),
  Effect.repeat(Effect.zipRight(Effect.sleep("1 second"), pipeIsLeft), { until: (left) => left })
)

/**
 * The console of a command: `log` prints by `write`, where a failure is a defect: nothing mends it. `error` prints nothing,
 * for errors of the command line reach `main`, which tells them.
 */
export const withConsole = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Console.consoleWith((console) =>
    Effect.withConsole(effect, {
      ...console,
      log: (...args) => Effect.orDie(write(`${format(...args)}\n`)),
      error: () => Effect.void
    })
  )

const lostLines = Metric.counter("payments_log_lines_lost_total", {
  description: "Lines of the log that standard error did not take",
  incremental: true
})

/** So much of the log waits for a reader that is slow; what comes then is lost, and told when the reader has caught up. */
const maxWaiting = 1024 * 1024

let lost = 0
let left = false

const losing = () => {
  lost += 1
  lostLines.unsafeUpdate(1, [])
}

/** Writes a line of the log, or loses it: no line ends the process, holds it up, or fills its memory. */
export const log = (line: string): void => {
  if (left || process.stderr.writableLength > maxWaiting) return losing()
  process.stderr.write(`${line}\n`, (error: Failure) => {
    if (error === null || error === undefined) {
      if (lost === 0) return
      const message = `${lost} lines of the log could not be written`
      lost = 0
      return log(JSON.stringify({ message, logLevel: "WARN", timestamp: new Date().toISOString() }))
    }
    left ||= isGone(process.stderr, error)
    losing()
  })
}
