import { Cause, Clock, Duration, Effect, Metric, Option, Random, Ref, Schema } from "effect"
import type { Part } from "./HealthPart.js"
import { problemOf } from "./Problem.js"

/** A service met defects repeatedly: further restarts would only hide the bug. */
export class ServiceGaveUp extends Schema.TaggedError<ServiceGaveUp>()("ServiceGaveUp", {
  service: Schema.String,
  cause: Schema.Defect
}) {
  override get message() {
    return `service ${this.service} kept failing`
  }
}

const restarts = Metric.counter("payments_service_restarts_total", {
  description: "Restarts of a service after a failure, by part",
  incremental: true
})

/** Pause before a restart: from 250 ms, doubled up to 10 s, each ±20 %. */
const pauseAfter = (failures: number) =>
  Effect.map(
    Random.nextRange(0.8, 1.2),
    (jitter) => Duration.millis(Math.min(250 * 2 ** (failures - 1), 10_000) * jitter)
  )

/** Milliseconds of running after which a service has recovered: its pauses begin again at 250 ms. */
const recovery = Duration.toMillis("1 minute")

/** Defects within the window, in milliseconds, that end the service for good. */
const maxDefects = 5
const defectWindow = Duration.toMillis("2 minutes")

/**
 * Runs a never-ending service and restarts it when it fails. Its part is `failed` until the service reports `working`, which the
 * service does when its work succeeds, and `stopped` at the end.
 *
 * A typed failure means that a dependency is away: the supervisor restarts the service without limit, and the health of the
 * part logs the outage. A failure for which `isFinal` is true ends the supervisor with that failure. A defect is a bug: the
 * fifth within two minutes ends the supervisor with `ServiceGaveUp`. Interrupting the supervisor interrupts the service and is
 * no failure.
 */
export const supervise = Effect.fnUntraced(function*<E, R, F extends E = never>(
  part: Part,
  run: Effect.Effect<never, E, R>,
  isFinal: (error: E) => error is F = (_): _ is F => false
) {
  const service = part.name
  const defects = yield* Ref.make<ReadonlyArray<number>>([])
  const failures = yield* Ref.make(0)
  const restarted = Metric.tagged(restarts, "part", service)
  yield* Metric.value(restarted)

  const recover = Effect.fnUntraced(function*(cause: Cause.Cause<E>, started: number) {
    if (Cause.isInterruptedOnly(cause)) return yield* Effect.failCause(cause as Cause.Cause<never>)
    const final = Option.filter(Cause.failureOption(cause), isFinal)
    if (Option.isSome(final)) return yield* Effect.fail(final.value)
    const now = yield* Clock.currentTimeMillis
    if (Cause.isDie(cause)) {
      part.failed({ reason: "restart", why: "a bug ended the service: see the log" })
      const recent = yield* Ref.updateAndGet(defects, (times) => [...times.filter((_) => _ > now - defectWindow), now])
      if (recent.length >= maxDefects) return yield* new ServiceGaveUp({ service, cause: Cause.squash(cause) })
      yield* Effect.logError("a bug ended the service, starting it again", cause)
    } else {
      const error = Cause.squash(cause)
      part.failed(problemOf(error instanceof Error ? error : { message: String(error) }, "restart"))
      yield* Effect.logDebug("starting the service again", cause)
    }
    yield* Metric.increment(restarted)
    const inARow = yield* Ref.updateAndGet(failures, (n) => now - started >= recovery ? 1 : n + 1)
    yield* Effect.sleep(yield* pauseAfter(inARow))
  })

  return yield* Clock.currentTimeMillis.pipe(
    Effect.flatMap((started) => Effect.catchAllCause(run, (cause) => recover(cause, started))),
    Effect.forever,
    Effect.ensuring(Effect.sync(part.stopped)),
    Effect.annotateLogs({ part: service })
  )
})
