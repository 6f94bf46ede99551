import { Duration, Effect, Metric } from "effect"
import * as Waiting from "../infra/runtime/Waiting.js"

const stalled = Waiting.stalled.pipe(Metric.tagged("service", "outbox-relay"), Metric.tagged("for", "publishing"))

/** Work with a problem is reported after this, so that one broken connection is not. */
const afterProblem = Duration.toMillis("1 second")
/** The same for work without a problem and without progress: half of the time within which a stall has to be visible (P12). */
const withoutProgress = Duration.toMillis("5 seconds")
const sayEvery = Duration.toMillis("1 minute")

/** A piece of work of the relay. */
export interface Work {
  /** What it does, for the report of a stall. */
  doing: string
  /** Time of the last progress, in milliseconds of the monotonic clock. */
  since: number
  /** Why it makes no progress. */
  problem: string | undefined
}

const rounded = (millis: number) => Duration.format(Duration.seconds(Math.round(millis / 1_000)))

/**
 * The work of the relay, and whether it makes progress. `report` receives why some work makes none, and undefined when all of it
 * does.
 */
export const make = (report: (problem: string | undefined) => Effect.Effect<void>) =>
  Effect.map(Effect.clock, (clock) => {
    const now = () => Number(clock.unsafeCurrentTimeNanos() / 1_000_000n)
    /** In the order in which the work began. */
    const inHand = new Set<Work>()
    /** Attempts that failed and are due again later: by what they wait for, with the time until which that holds. */
    const later = new Map<string, { readonly work: Work; until: number }>()
    let reported: { readonly since: number; at: number; reason: string } | undefined

    /** The work makes progress, or begins: its problem is over. */
    const moved = (work: Work, doing: string) => {
      work.doing = doing
      work.since = now()
      work.problem = undefined
      inHand.add(work)
    }

    /** The work has a problem. */
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

    /** The work has ended, or waits for more to do. */
    const end = (work: Work) => void inHand.delete(work)

    /** `name` could not be reached; the next attempt is within `millis`, and the problem holds until then. */
    const postponed = (name: string, problem: string, millis: number) => {
      const until = now() + millis
      const known = later.get(name)
      if (known === undefined) later.set(name, { work: { doing: "", since: now(), problem }, until })
      else {
        known.work.problem = problem
        known.until = until
      }
    }

    /** `name` was reached: its problem is over. */
    const reached = (name: string) => {
      if (later.size > 0) later.delete(name)
    }

    /** Runs a query that is repeated within seconds, also after a failure. */
    const query = <A, E extends { readonly message: string }>(doing: string, effect: Effect.Effect<A, E>) =>
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
        if (reported === undefined) return
        yield* Effect.logInfo(`publishing again, after ${rounded(at - reported.since)}`)
        reported = undefined
        return yield* report(undefined)
      }
      const reason = first.problem ?? `${first.doing} for ${rounded(at - first.since)}`
      if (reported === undefined) {
        reported = { since: first.since, at, reason }
        yield* Effect.logWarning(`not publishing: ${reason}`)
      } else if (at - reported.at >= sayEvery) {
        reported.at = at
        yield* Effect.logWarning(`still not publishing, for ${rounded(at - reported.since)}: ${reason}`)
      }
      reported.reason = reason
      yield* report(reason)
    })

    /**
     * Reports work without progress, for ever: to readiness and the metric within seconds, to the log when it begins, once a
     * minute, and when it is over.
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
      query,
      watch,
      /** The problem that was reported last and is not over. */
      problem: () => reported?.reason
    } as const
  })

export type Progress = Effect.Effect.Success<ReturnType<typeof make>>
