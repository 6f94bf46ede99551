import { Cause, Clock, Duration, Effect, Metric, Option, Random, Ref, Schema } from "effect"

/** A service met a bug again and again: going on would only hide it. */
export class ServiceGaveUp extends Schema.TaggedError<ServiceGaveUp>()("ServiceGaveUp", {
  service: Schema.String,
  cause: Schema.Defect
}) {
  override get message() {
    return `service ${this.service} kept failing`
  }
}

const restarts = Metric.counter("payments_service_restarts_total", {
  description: "Times a supervised service was started again after a failure",
  incremental: true
})

/** From 250 ms, doubled up to 10 s, each ±20 %. */
const pauseAfter = (failures: number) =>
  Effect.map(
    Random.nextRange(0.8, 1.2),
    (jitter) => Duration.millis(Math.min(250 * 2 ** (failures - 1), 10_000) * jitter)
  )

/** A service that ran so long has recovered: its pauses begin anew. */
const recovery = Duration.toMillis("1 minute")

/** So many defects within two minutes end the service for good. */
const maxDefects = 5
const defectWindow = Duration.toMillis("2 minutes")

const messageOf = (cause: Cause.Cause<unknown>) => {
  const error = Cause.squash(cause)
  return error instanceof Error ? error.message : String(error)
}

/**
 * Runs a never-ending service and starts it again when it fails.
 *
 * A typed failure is a dependency that is away: it is waited for, for ever, unless `isFinal` says that waiting is no
 * help; then it is passed on. A defect is a bug: when it keeps returning, the supervisor fails with `ServiceGaveUp`.
 * Interrupting the supervisor interrupts the service, and is no failure.
 */
export const supervise = Effect.fnUntraced(function*<E, R, F extends E = never>(
  service: string,
  run: Effect.Effect<never, E, R>,
  isFinal: (error: E) => error is F = (_): _ is F => false
) {
  const defects = yield* Ref.make<ReadonlyArray<number>>([])
  const failures = yield* Ref.make(0)

  const judge = Effect.fnUntraced(function*(cause: Cause.Cause<E>, started: number) {
    if (Cause.isInterruptedOnly(cause)) return yield* Effect.failCause(cause as Cause.Cause<never>)
    const final = Option.filter(Cause.failureOption(cause), isFinal)
    if (Option.isSome(final)) return yield* Effect.fail(final.value)
    const now = yield* Clock.currentTimeMillis
    if (Cause.isDie(cause)) {
      const recent = yield* Ref.updateAndGet(defects, (times) => [...times.filter((_) => _ > now - defectWindow), now])
      if (recent.length >= maxDefects) return yield* new ServiceGaveUp({ service, cause: Cause.squash(cause) })
    }
    yield* Metric.increment(Metric.tagged(restarts, "service", service))
    yield* Cause.isDie(cause)
      ? Effect.logError("a bug ended the service, starting it again", cause)
      : Effect.zipRight(
        Effect.logWarning(`starting the service again: ${messageOf(cause)}`),
        Effect.logDebug("why the service is started again", cause)
      )
    const inARow = yield* Ref.updateAndGet(failures, (n) => now - started >= recovery ? 1 : n + 1)
    yield* Effect.sleep(yield* pauseAfter(inARow))
  })

  return yield* Clock.currentTimeMillis.pipe(
    Effect.flatMap((started) => Effect.catchAllCause(run, (cause) => judge(cause, started))),
    Effect.forever,
    Effect.annotateLogs({ service })
  )
})
