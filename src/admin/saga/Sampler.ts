import { Cause, Clock, Deferred, Duration, Effect, Option } from "effect"
import type { KafkaOptions } from "../../infra/kafka/KafkaClient.js"
import * as KafkaTopic from "../../infra/kafka/KafkaTopic.js"
import { Health } from "../../infra/runtime/Health.js"
import * as Lag from "../../inventory/Lag.js"
import { Backlog } from "../../outbox/Backlog.js"
import type { Saga, Sample } from "../api/Saga.js"
import type { Counters } from "./FlowRows.js"
import * as FlowRows from "./FlowRows.js"
import * as Standing from "./Standing.js"

/** Time between two samples. */
const every = Duration.seconds(5)
/** The same while no reader asks: a line of 15 minutes still has 30 points, and rates are exact over any time. */
const idle = Duration.seconds(30)
/** Samples are kept for this time. */
const kept = Duration.toMillis("15 minutes")
/** A slow server leaves gaps, and does not hold up the samples. */
const patience = Duration.seconds(4)
/** Time between two looks at the parts of this process, which ask no server. */
const lookEvery = Duration.seconds(1)

export interface SamplerOptions {
  readonly kafka: KafkaOptions
  readonly groupId: string
  readonly inventoryTopic: string
  readonly dlqTopic: string
}

interface Measured {
  /** Milliseconds of the monotonic clock. */
  readonly at: number
  readonly counters: Option.Option<Counters>
  readonly positions: Option.Option<ReadonlyMap<number, Lag.Position>>
  /** Events that left the outbox since the statistics began: it only rises. */
  readonly published: number | undefined
}

const rate = (now: number | undefined, before: number | undefined, seconds: number): number | null =>
  now === undefined || before === undefined || seconds <= 0
    ? null
    : Math.round(Math.max(0, now - before) / seconds * 100) / 100

const moved = (now: ReadonlyMap<number, Lag.Position>, before: ReadonlyMap<number, Lag.Position>) => {
  let records = 0n
  for (const [partition, { at }] of now) {
    const from = before.get(partition)?.at
    if (from !== undefined && at > from) records += at - from
  }
  return Number(records)
}

/** The rates between two measurements. Null: not known. */
const ratesOf = (now: Measured, before: Measured | undefined) => {
  const seconds = before === undefined ? 0 : (now.at - before.at) / 1_000
  const counter = (name: keyof Counters) =>
    rate(
      Option.getOrUndefined(now.counters)?.[name],
      before === undefined ? undefined : Option.getOrUndefined(before.counters)?.[name],
      seconds
    )
  const positions = Option.zipWith(
    now.positions,
    Option.flatMap(Option.fromNullable(before), (_) => _.positions),
    moved
  )
  return {
    consumed: rate(Option.getOrUndefined(positions), 0, seconds),
    payments: counter("payments"),
    settled: counter("settled"),
    published: rate(now.published, before?.published, seconds)
  }
}

/**
 * Measures the flow for the life of the scope, and keeps 15 minutes: every 5 seconds while it has a reader, otherwise every 30
 * seconds. A sample is two statements and three requests to the brokers, for any number of pages. `isRead` says whether a page
 * follows. `changed` gets the state after each sample, and when a part of this process changes its state. The figures are those
 * of the whole deployment; the parts are those of this process.
 */
export const make = Effect.fnUntraced(function*(
  { dlqTopic, groupId, inventoryTopic, kafka }: SamplerOptions,
  { changed, isRead }: { readonly changed: (saga: Saga) => void; readonly isRead: () => boolean }
) {
  const health = yield* Health
  const backlog = yield* Backlog
  const counters = yield* FlowRows.make
  const inventory = yield* Lag.positions({ ...kafka, topic: inventoryTopic, groupId })
  const letters = yield* KafkaTopic.make(kafka, dlqTopic, groupId)

  const first = yield* Deferred.make<void>()
  const history: Array<Sample> = []
  let positions: ReadonlyMap<number, Lag.Position> = new Map()
  let before: Measured | undefined
  let lastParts = ""
  /** Whether a sample had the figures of the database: before that, at a start, the tables are not there yet. */
  let isKnown = false
  /** The time until which a single question counts as a reader: milliseconds of the epoch. */
  let askedUntil = 0
  const wake = yield* Effect.makeLatch()

  const known = <A, E, R>(effect: Effect.Effect<A, E, R>) => effect.pipe(Effect.timeout(patience), Effect.option)

  const sample = Effect.gen(function*() {
    const start = yield* Clock.currentTimeMillis
    const startedAt = Number((yield* Clock.currentTimeNanos) / 1_000_000n)
    const [events, rows, places, ends] = yield* Effect.all([
      known(Effect.flatten(backlog.look)),
      known(counters),
      known(inventory),
      known(letters.look)
    ], { concurrency: "unbounded" })
    const left = Option.zipWith(rows, events, (rows, { dead, waiting }) => rows.events - waiting - dead)
    const isReset = Option.getOrElse(
      Option.zipWith(
        rows,
        Option.fromNullable(before).pipe(Option.flatMap((_) => _.counters)),
        (now, then) => now.events < then.events
      ),
      () => false
    )
    const measured: Measured = {
      at: startedAt,
      counters: rows,
      positions: places,
      // the statistics come up to some seconds later than the rows
      published: Option.getOrUndefined(Option.map(left, (_) => isReset ? _ : Math.max(_, before?.published ?? 0)))
    }
    positions = Option.getOrElse(places, () => new Map())
    const total = Option.map(places, (all) => [...all.values()].reduce((sum, { at, end }) => sum + end - at, 0n))
    const event = (name: "waiting" | "dead" | "oldest") =>
      Option.match(events, { onNone: () => null, onSome: (_) => _[name] })
    history.push({
      // a server that is away holds the sample up: the figures are those of its begin
      at: new Date(start),
      ...ratesOf(measured, before),
      lag: Option.match(total, { onNone: () => null, onSome: Number }),
      waiting: event("waiting"),
      oldest_seconds: event("oldest"),
      dead: event("dead"),
      dead_letters: Option.match(ends, {
        onNone: () => null,
        onSome: ({ ends }) => Number([...ends.values()].reduce((sum, { low, stable }) => sum + stable - low, 0n))
      })
    })
    while (history[0]!.at.getTime() < start - kept) history.shift()
    before = measured
    isKnown ||= Option.isSome(rows)
    yield* Deferred.succeed(first, undefined)
  }).pipe(Effect.withTracerEnabled(false))

  /** The state now; undefined before the first sample. */
  const current = Effect.map(health.known, ({ dependencies }): Saga | undefined => {
    const parts = Standing.partsOf(dependencies)
    const now = history.at(-1)
    return now && {
      parts,
      standing: Standing.of(parts, history),
      now,
      lag: Array.from(positions, ([partition, { at, end }]) => ({
        partition,
        end: String(end),
        committed: String(at),
        lag: String(end - at)
      })),
      every_seconds: Duration.toSeconds(every)
    }
  })

  const tell = Effect.map(current, (saga) => {
    if (saga === undefined) return
    lastParts = JSON.stringify(saga.parts)
    changed(saga)
  })
  const look = Effect.flatMap(
    current,
    (saga) => saga !== undefined && JSON.stringify(saga.parts) !== lastParts ? tell : Effect.void
  )

  /** Repeats the work for the life of the scope. Logs a defect, once for defects in a row: the pages show a gap meanwhile. */
  const repeated = (work: Effect.Effect<void>, pause: Effect.Effect<void>) => {
    let isBroken = false
    return work.pipe(
      Effect.matchCauseEffect({
        onFailure: (cause) =>
          Effect.suspend(() => {
            if (isBroken || Cause.isInterruptedOnly(cause)) return Effect.void
            isBroken = true
            return Effect.logError("a bug stopped a sample of the console, which tries again", cause)
          }),
        onSuccess: () => Effect.sync(() => void (isBroken = false))
      }),
      Effect.zipRight(pause),
      Effect.forever,
      Effect.forkScoped
    )
  }
  const untilNext = Effect.gen(function*() {
    if (!isKnown) return yield* Effect.sleep(lookEvery)
    yield* wake.close
    yield* Effect.sleep(every)
    if (isRead() || (yield* Clock.currentTimeMillis) < askedUntil) return
    yield* Effect.race(wake.await, Effect.sleep(Duration.subtract(idle, every)))
  })
  yield* repeated(Effect.zipRight(sample, tell), untilNext)
  yield* repeated(look, Effect.sleep(lookEvery))

  /** Samples at the fast pace for a while, and now, when the last sample is older than that. */
  const ask = Effect.flatMap(Clock.currentTimeMillis, (now) => {
    askedUntil = now + 3 * Duration.toMillis(every)
    return wake.open
  })

  return {
    /** The state now; waits for the first sample. Its caller counts as a reader. */
    current: Effect.zipRight(Effect.zipRight(ask, Deferred.await(first)), Effect.map(current, (saga) => saga!)),
    history: (): ReadonlyArray<Sample> => history
  } as const
})
