import { Console, Deferred, Effect, FiberId, Metric, Schema } from "effect"
import { closeSync, constants, fstatSync, openSync } from "node:fs"
import { format } from "node:util"
import * as LogLine from "./LogLine.js"

/** A write to standard output failed for another reason than a closed reader, e.g. a full disk. */
export class OutputFailed extends Schema.TaggedError<OutputFailed>()("OutputFailed", { cause: Schema.Defect }) {
  override get message() {
    return `cannot write to standard output: ${this.cause instanceof Error ? this.cause.message : this.cause}`
  }
}

type Failure = NodeJS.ErrnoException | null | undefined

/** The reader is gone: a pipe such as `head` has ended, or the terminal is closed. */
const isGone = (stream: NodeJS.WriteStream, error: Failure) =>
  error?.code === "EPIPE" || (error?.code === "EIO" && stream.isTTY)

const gone = Deferred.unsafeMake<void>(FiberId.none)

const ignore = () => {}

/**
 * Prepares both streams, once. Without a listener, an error of a stream would end the process. A paused terminal (Ctrl-S)
 * would block the process at the next log line, so standard error does not block. Node.js itself would write warnings as text.
 */
export const prepare = () => {
  process.removeAllListeners("warning").on("warning", ({ message, name }) => {
    const text = `${name}: ${message}`
    log(process.stderr.isTTY ? text : LogLine.write("WARN", text))
  })
  process.stdout.on("error", ignore)
  process.stderr.on("error", ignore)
  if (process.stderr.isTTY) {
    const { _handle } = process.stderr as { _handle?: { readonly setBlocking?: (blocking: boolean) => unknown } }
    _handle?.setBlocking?.(false)
  }
}

/** Writes a line to standard error. Ends when the write has succeeded or failed. */
export const tell = (line: string) =>
  Effect.async<void>((resume) => void process.stderr.write(`${line}\n`, () => resume(Effect.void)))

/**
 * Writes to standard output. Ends when the text is written, however slow the reader is. A reader that is gone is no failure.
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

/** True when standard output is a pipe without a reader. Linux only: opening the pipe again fails with ENXIO. */
const pipeHasNoReader = Effect.sync(() => {
  if (process.platform !== "linux" || !fstatSync(1).isFIFO()) return false
  try {
    closeSync(openSync("/proc/self/fd/1", constants.O_WRONLY | constants.O_NONBLOCK))
    return false
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ENXIO"
  }
})

/** Ends when the reader of standard output is gone: at the next write, and on Linux within a second without one. */
export const readerGone: Effect.Effect<void> = Effect.raceFirst(
  Deferred.await(gone),
  Effect.repeat(Effect.zipRight(Effect.sleep("1 second"), pipeHasNoReader), { until: (closed) => closed })
)

/**
 * Sets the console of a command. `log` prints by `write`; a failed write is a defect. `error` prints nothing: errors of the
 * command line reach `main`, which reports them.
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

/** The metrics of the log. */
export const metrics = [lostLines]

/** Bytes of log that may wait for a slow reader. Further lines are lost; a later line says how many. */
const maxWaiting = 1024 * 1024

let lost = 0
let readerIsGone = false

const lose = () => {
  lost += 1
  lostLines.unsafeUpdate(1, [])
}

/** Writes a log line or drops it: no line ends the process, blocks it, or fills its memory. */
export const log = (line: string): void => {
  if (readerIsGone || process.stderr.writableLength > maxWaiting) return lose()
  process.stderr.write(`${line}\n`, (error: Failure) => {
    if (error === null || error === undefined) {
      if (lost === 0) return
      const message = `${lost} lines of the log could not be written`
      lost = 0
      return log(LogLine.write("WARN", message))
    }
    readerIsGone ||= isGone(process.stderr, error)
    lose()
  })
}
