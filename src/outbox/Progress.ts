import { Duration, Effect, Metric } from "effect"
import * as Waiting from "../infra/runtime/Waiting.js"

const stalled = Waiting.stalled.pipe(Metric.tagged("service", "outbox-relay"), Metric.tagged("for", "publishing"))

/** Work with a problem is said to wait after this, so that one broken connection is not told. */
const afterProblem = Duration.toMillis("1 second")
/** The same for work that has no problem and does not go on: half of the time within which a stall has to be visible. */
const withoutProgress = Duration.toMillis("5 seconds")
const sayEvery = Duration.toMillis("1 minute")

/** Something that the relay has in hand. */
export interface Work {
  /** Said of it when it does not go on. */
  doing: string
  /** Milliseconds of a clock that never jumps: when it went on last. */
  since: number
  /** Why it does not go on. */
  problem: string | undefined
}

const rounded = (millis: number) => Duration.format(Duration.seconds(Math.round(millis / 1_000)))

/**
 * What the relay has in hand, and whether it goes on. `report` is told why something does not go on, and undefined when
 * everything does.
 */
export const make = (report: (problem: string | undefined) => Effect.Effect<void>) =>
  Effect.map(Effect.clock, (clock) => {
    const now = () => Number(clock.unsafeCurrentTimeNanos() / 1_000_000n)
    /** In the order in which it began. */
    const inHand = new Set<Work>()
    /** What is tried again later, and is in nobody's hand meanwhile: by what it waits for, and until when that is true. */
    const later = new Map<string, { readonly work: Work; until: number }>()
    let told: { readonly since: number; at: number; reason: string } | undefined

    /** The work goes on, or begins: what was said of it is over. */
    const moved = (work: Work, doing: string) => {
      work.doing = doing
      work.since = now()
      work.problem = undefined
      inHand.add(work)
    }

    /** The work cannot go on now. */
    const stuck = (work: Work, problem: string) => {
      if (!inHand.has(work)) moved(work, work.doing)
      work.problem = problem
    }

    /** Begins work. */
    const begin = (doing: string): Work => {
      const work: Work = { doing, since: now(), problem: undefined }
      inHand.add(work)
      return work
    }

    /** The work has ended, or rests. */
    const end = (work: Work) => void inHand.delete(work)

    /** `name` could not be reached, and is tried again within `millis`, for as long as which this is true. */
    const postponed = (name: string, problem: string, millis: number) => {
      const until = now() + millis
      const known = later.get(name)
      if (known === undefined) later.set(name, { work: { doing: "", since: now(), problem }, until })
      else {
        known.work.problem = problem
        known.until = until
      }
    }

    /** It was reached. */
    const reached = (name: string) => {
      if (later.size > 0) later.delete(name)
    }

    /** Asks the database for something that is asked again within seconds, whatever comes of it. */
    const asking = <A, E extends { readonly message: string }>(doing: string, effect: Effect.Effect<A, E>) =>
      Effect.suspend(() => {
        const work = begin(doing)
        return Effect.ensuring(effect, Effect.sync(() => end(work)))
      }).pipe(
        Effect.tapBoth({
          onFailure: ({ message }) => Effect.sync(() => postponed(doing, message, 10_000)),
          onSuccess: () => Effect.sync(() => reached(doing))
        })
      )

    const all = (at: number) => {
      for (const [name, { until }] of later) if (until < at) later.delete(name)
      return [...inHand, ...Array.from(later.values(), ({ work }) => work)]
    }

    const look = Effect.gen(function*() {
      const at = now()
      const waiting = all(at).filter(({ problem, since }) =>
        at - since >= (problem === undefined ? withoutProgress : afterProblem)
      )
      stalled.unsafeUpdate(waiting.length, [])
      const first = waiting.find(({ problem }) => problem !== undefined) ?? waiting[0]
      if (first === undefined) {
        if (told === undefined) return
        yield* Effect.logInfo(`publishing again, after ${rounded(at - told.since)}`)
        told = undefined
        return yield* report(undefined)
      }
      const reason = first.problem ?? `${first.doing} for ${rounded(at - first.since)}`
      if (told === undefined) {
        told = { since: first.since, at, reason }
        yield* Effect.logWarning(`not publishing: ${reason}`)
      } else if (at - told.at >= sayEvery) {
        told.at = at
        yield* Effect.logWarning(`still not publishing, for ${rounded(at - told.since)}: ${reason}`)
      }
      told.reason = reason
      yield* report(reason)
    })

    /**
     * Tells what does not go on, for ever: readiness and the metric within seconds; the log when it begins, once a minute,
     * and when it is over.
     */
    const watch: Effect.Effect<never> = look.pipe(
      Effect.zipRight(Effect.sleep("1 second")),
      Effect.forever,
      Effect.ensuring(Effect.sync(() => stalled.unsafeUpdate(0, [])))
    )

    return {
      begin,
      moved,
      stuck,
      end,
      postponed,
      reached,
      asking,
      watch,
      /** What was told last, and is not over. */
      problem: () => told?.reason
    } as const
  })

export type Progress = Effect.Effect.Success<ReturnType<typeof make>>
