import type { Schedule } from "effect"
import { Duration, Effect, Metric } from "effect"
import { retry } from "./Retry.js"

/** Number of stalled pieces of work, tagged with their `service` and the dependency `for` which they wait. */
export const stalled = Metric.gauge("payments_stalled", {
  description: "Pieces of work that make no progress now, by the service and by what they wait for"
})

export interface WaitingOptions {
  /** The service that does the work: a label of the metric. */
  readonly service: string
  /** The dependency, e.g. `the database`: a label of the metric and a part of the log lines. */
  readonly for: string
  /** Called every second with the reason while work waits, and once with undefined when no work waits any more. */
  readonly report: (problem: string | undefined) => Effect.Effect<void>
}

/** Milliseconds until failed work counts as waiting: one broken connection is not reported. */
const afterFailure = Duration.toMillis("1 second")
/** The same for work that has neither failed nor ended: half of the 10 seconds within which a stall must be visible (P12). */
const withoutAnswer = Duration.toMillis("5 seconds")
const lookEvery = Duration.seconds(1)
const logEvery = Duration.toMillis("1 minute")

interface Step {
  /** The subject of the step for an operator, e.g. `inventory/0`. */
  readonly name: string
  /** Milliseconds of a monotonic clock. */
  readonly since: number
  /** Message of the last failure; undefined before the first. */
  reason: string | undefined
}

/** Work that may have to wait for a dependency, and the report of such waits. */
export interface Waiting {
  /** Repeats the attempt until it succeeds. Fails as the last attempt did when `mayContinue` returns false. */
  readonly step: (
    name: string,
    mayContinue: () => boolean
  ) => <A, E extends { readonly message: string }, R>(attempt: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  /**
   * Reports waiting steps for ever, within ten seconds: to `report`, the metric and the log (one line at the start, one a
   * minute, one at the end). The caller runs it beside the steps, so that its defects end the caller's service.
   */
  readonly watch: Effect.Effect<never>
}

const rounded = (millis: number) => Duration.format(Duration.seconds(Math.round(millis / 1_000)))

/** `schedule` sets the pauses between attempts. */
export const make = (options: WaitingOptions, schedule: Schedule.Schedule<unknown>): Effect.Effect<Waiting> =>
  Effect.map(Effect.clock, (clock) => {
    const now = () => Number(clock.unsafeCurrentTimeNanos() / 1_000_000n)
    const gauge = stalled.pipe(Metric.tagged("service", options.service), Metric.tagged("for", options.for))
    /** In the order of their start. */
    const steps = new Set<Step>()
    /** The reported wait: its start and its last log line. */
    let wait: { readonly since: number; readonly loggedAt: number } | undefined

    const end = Effect.suspend(() => {
      if (wait === undefined) return Effect.void
      const { since } = wait
      wait = undefined
      return Effect.zipRight(
        Effect.logInfo(`no longer waiting for ${options.for}, after ${rounded(now() - since)}`),
        options.report(undefined)
      )
    })

    const look = Effect.gen(function*() {
      const at = now()
      const waiting = [...steps].filter(({ reason, since }) =>
        at - since >= (reason === undefined ? withoutAnswer : afterFailure)
      )
      gauge.unsafeUpdate(waiting.length, [])
      const [oldest] = waiting
      if (oldest === undefined) return yield* end
      const reason = oldest.reason ?? `no answer from ${options.for} yet`
      const line = wait === undefined
        ? `waiting for ${options.for}: ${reason}`
        : at - wait.loggedAt >= logEvery
        ? `still waiting for ${options.for}, for ${rounded(at - wait.since)}: ${reason}`
        : undefined
      if (line !== undefined) {
        wait = { since: wait?.since ?? oldest.since, loggedAt: at }
        yield* Effect.logWarning(line).pipe(
          Effect.annotateLogs({ waiting: waiting.map(({ name }) => name).join(", ") })
        )
      }
      yield* options.report(reason)
    })
    const watch = look.pipe(
      Effect.delay(lookEvery),
      Effect.forever,
      Effect.ensuring(Effect.zipRight(Effect.sync(() => gauge.unsafeUpdate(0, [])), end))
    )

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

    return { step, watch }
  })
