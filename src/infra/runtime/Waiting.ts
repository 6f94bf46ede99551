import type { Schedule, Scope } from "effect"
import { Clock, Duration, Effect, Metric } from "effect"
import { retry } from "./Retry.js"

/** Work that makes no progress, tagged with its `service` and with what it waits `for`. */
export const stalled = Metric.gauge("payments_stalled", {
  description: "Pieces of work that make no progress now, by the service and by what they wait for"
})

export interface WaitingOptions {
  /** The service that does the work. */
  readonly service: string
  /** What is waited for: a label of the metric, and a part of the log lines. */
  readonly for: string
  /** Told the reason while work waits, and undefined when none does any more. */
  readonly report: (problem: string | undefined) => Effect.Effect<void>
}

/** Work that failed is said to wait after this, so that one broken connection is not told. */
const afterFailure = Duration.toMillis("1 second")
/** The same for work that has neither failed nor ended: half of the time within which a stall has to be visible. */
const withoutAnswer = Duration.toMillis("5 seconds")
const lookEvery = Duration.seconds(1)
const sayEvery = Duration.toMillis("1 minute")

interface Step {
  /** What the step is done for, as an operator knows it. */
  readonly name: string
  readonly since: number
  /** Why the last attempt failed; undefined before the first failure. */
  reason: string | undefined
}

/** Work that may have to wait for something, and is told when it does. */
export interface Waiting {
  /**
   * Attempts a step until it succeeds, or until `mayContinue` says no: then it fails as the last attempt did. Whatever has
   * to wait is visible within ten seconds in the readiness, the metric and the log: a line when it begins, one a minute,
   * and one when nothing waits any more.
   */
  readonly step: (
    name: string,
    mayContinue: () => boolean
  ) => <A, E extends { readonly message: string }, R>(attempt: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
}

const millis = Effect.map(Clock.currentTimeNanos, (nanos) => Number(nanos / 1_000_000n))

const rounded = (millis: number) => Duration.format(Duration.seconds(Math.round(millis / 1_000)))

/** Failed attempts are repeated as `schedule` says. */
export const make = (
  options: WaitingOptions,
  schedule: Schedule.Schedule<unknown>
): Effect.Effect<Waiting, never, Scope.Scope> =>
  Effect.gen(function*() {
    const clock = yield* Effect.clock
    const now = () => Number(clock.unsafeCurrentTimeNanos() / 1_000_000n)
    const gauge = stalled.pipe(Metric.tagged("service", options.service), Metric.tagged("for", options.for))
    /** In the order in which they began. */
    const steps = new Set<Step>()
    /** Since when it is said that work waits, and when that was said last. */
    let told: { readonly since: number; at: number } | undefined

    const end = Effect.fnUntraced(function*(at: number) {
      if (told === undefined) return
      const { since } = told
      told = undefined
      yield* Effect.logInfo(`no longer waiting for ${options.for}, after ${rounded(at - since)}`)
      yield* options.report(undefined)
    })

    const look = Effect.gen(function*() {
      const at = yield* millis
      const waiting = [...steps].filter(({ reason, since }) =>
        at - since >= (reason === undefined ? withoutAnswer : afterFailure)
      )
      gauge.unsafeUpdate(waiting.length, [])
      const [oldest] = waiting
      if (oldest === undefined) return yield* end(at)
      const reason = oldest.reason ?? `no answer from ${options.for} yet`
      const line = told === undefined
        ? `waiting for ${options.for}: ${reason}`
        : at - told.at >= sayEvery
        ? `still waiting for ${options.for}, for ${rounded(at - told.since)}: ${reason}`
        : undefined
      if (line !== undefined) {
        told = { since: told?.since ?? oldest.since, at }
        yield* Effect.logWarning(line).pipe(
          Effect.annotateLogs({ waiting: waiting.map(({ name }) => name).join(", ") })
        )
      }
      yield* options.report(reason)
    })
    yield* Effect.addFinalizer(() => Effect.flatMap(millis, end))
    yield* Effect.addFinalizer(() => Effect.sync(() => gauge.unsafeUpdate(0, [])))
    yield* look.pipe(Effect.delay(lookEvery), Effect.forever, Effect.forkScoped)

    const step = (name: string, mayContinue: () => boolean) =>
    <A, E extends { readonly message: string }, R>(
      attempt: Effect.Effect<A, E, R>
    ) =>
      Effect.suspend(() => {
        const step: Step = { name, since: now(), reason: undefined }
        steps.add(step)
        return attempt.pipe(
          Effect.tapError((error) => Effect.sync(() => void (step.reason = error.message))),
          retry<E>(schedule, mayContinue),
          Effect.ensuring(Effect.sync(() => steps.delete(step)))
        )
      })

    return { step }
  })
