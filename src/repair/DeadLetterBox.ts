import { SqlClient } from "@effect/sql"
import { Array as Arr, Effect, Either, Schema } from "effect"
import type { KafkaOptions } from "../infra/kafka/KafkaClient.js"
import type { KafkaUnavailable } from "../infra/kafka/KafkaClient.js"
import * as KafkaOffsets from "../infra/kafka/KafkaOffsets.js"
import * as KafkaProducer from "../infra/kafka/KafkaProducer.js"
import * as KafkaScan from "../infra/kafka/KafkaScan.js"
import * as Postgres from "../infra/postgres/Postgres.js"
import type { Filed, Replays } from "./Filed.js"
import type { Letter, Place } from "./Letter.js"
import * as Letters from "./Letter.js"
import type { PlannedLetter, ReplayChoice } from "./LetterReplay.js"
import { judge } from "./LetterReplay.js"
import type { By } from "./Operations.js"
import type { Pacing } from "./OutboxRepair.js"
import * as Pace from "./Pace.js"
import type { LeftOut, Repaired } from "./Plan.js"
import * as Plans from "./Plan.js"

/** The dead-letter topic has no record at this position. */
export class NoSuchLetter extends Schema.TaggedError<NoSuchLetter>()("NoSuchLetter", { place: Schema.String }) {
  override get message() {
    return `there is no dead letter at ${this.place}: payments dead-letters list shows them`
  }
}

/** The inventory topic does not take the record of a letter. */
export class ReplayRefused extends Schema.TaggedError<ReplayRefused>()("ReplayRefused", {
  topic: Schema.String,
  reason: Schema.String
}) {
  override get message() {
    return `topic ${this.topic} does not take the records: ${this.reason}. Nothing of this step was replayed`
  }
}

export interface BoxOptions {
  readonly kafka: KafkaOptions
  readonly dlqTopic: string
  readonly inventoryTopic: string
  readonly acceptStatuses: ReadonlyArray<string>
}

/** The preview of a replay. */
export interface LetterPlan {
  readonly letters: ReadonlyArray<PlannedLetter>
  readonly leftOut: ReadonlyArray<LeftOut>
}

/** Bytes of the values of the letters that one replay chooses, at the most: they are in memory. */
const mostBytes = 64 * 1024 * 1024

const notReplayed: Replays = { count: 0, last: null }

/**
 * The dead-letter topic, and the replays of its letters.
 *
 * A replay writes the record to the inventory topic again, and a row of table `operation` in a transaction that commits after
 * the broker has acknowledged the record. The row is unique by letter and number of the replay: of two replays at once the
 * second one waits, and then does nothing. A crash between acknowledgement and commit leaves the letter as not replayed; a
 * second replay is then a repeat by `idempotent_key`, which makes no second payment.
 */
export class DeadLetterBox extends Effect.Service<DeadLetterBox>()("payments/DeadLetterBox", {
  effect: Effect.fnUntraced(function*(options: BoxOptions) {
    const sql = yield* SqlClient.SqlClient
    const { dlqTopic, inventoryTopic, kafka } = options
    const accepted = new Set(options.acceptStatuses)

    /** Name of a letter in table `operation`. With its time, because a topic that is made again begins at offset 0 again. */
    const nameOf = (letter: Letter) => `${dlqTopic}/${Letters.show(letter)} ${letter.at ?? "-"}`

    const withReplays = (letters: ReadonlyArray<Letter>) =>
      letters.length === 0
        ? Effect.succeed<ReadonlyArray<Filed>>([])
        : sql<{ readonly place: string; readonly count: number; readonly at: Date; readonly operator: string }>`
          SELECT DISTINCT ON (place) place, nth + 1 AS count, at, operator FROM operation
          WHERE place = ANY(${letters.map(nameOf)}::text[]) ORDER BY place, nth DESC
        `.pipe(
          Postgres.run("15 seconds"),
          Effect.map((rows) => {
            const known = new Map(
              rows.map(({ at, count, operator, place }) => [place, { count, last: { at, operator } }])
            )
            return letters.map((letter): Filed => ({ letter, replays: known.get(nameOf(letter)) ?? notReplayed }))
          })
        )

    /**
     * Calls `take` with the letters since `since` (milliseconds of the epoch) whose reason contains `error`, of each partition
     * in their order; with `newest` only with those among the newest so many records of each partition. Returns the numbers of
     * records that it read and that there are. Fails with `KafkaUnavailable`, `TopicMissing` or `DatabaseUnavailable`.
     */
    const scan = Effect.fnUntraced(function*<E>(
      filter: { readonly error: string | undefined; readonly since: number | undefined; readonly newest?: number },
      take: (letters: ReadonlyArray<Filed>) => Effect.Effect<void, E>
    ) {
      const all = yield* KafkaOffsets.spans(kafka, dlqTopic, filter.since)
      const spans = filter.newest === undefined ? all : KafkaOffsets.newest(all, filter.newest)
      yield* KafkaScan.scan(kafka, dlqTopic, spans, (partition, records) => {
        const letters = records.map((record) => Letters.read(partition, record))
          .filter(({ reason }) => filter.error === undefined || reason.includes(filter.error))
        return Effect.flatMap(withReplays(letters), take)
      })
      return { read: KafkaOffsets.count(spans), total: KafkaOffsets.count(all) } as const
    })

    /**
     * The letters whose reason contains `error`, at most `letters` and about 64 MiB of values; with `again` also those that were
     * replayed before. `more`: there are others. Fails like `scan`.
     */
    const choose = Effect.fnUntraced(function*({ again, error, letters }: {
      readonly error: string | undefined
      readonly again: boolean
      readonly letters: number
    }) {
      const filed: Array<Filed> = []
      let [bytes, more] = [0, false]
      yield* scan({ error, since: undefined }, (found) =>
        Effect.sync(() => {
          for (const one of found) {
            if (one.replays.count > 0 && !again) continue
            more ||= filed.length >= letters || bytes > mostBytes
            if (more) return
            bytes += one.letter.value?.length ?? 0
            filed.push(one)
          }
        }))
      return { filed, more } as const
    })

    /** The letters at these positions. Fails with `NoSuchLetter` for the first position without one. */
    const at = Effect.fnUntraced(function*(places: ReadonlyArray<Place>) {
      const spans = yield* KafkaOffsets.spans(kafka, dlqTopic, undefined)
      const found = new Map<string, Letter>()
      for (const place of places) {
        const span = spans.find(({ partition }) => partition === place.partition)
        const start = Number(place.offset)
        if (span !== undefined && start >= span.start && start < span.end) {
          yield* KafkaScan.scan(
            kafka,
            dlqTopic,
            [{ ...span, start, end: start + 1 }],
            (partition, records) =>
              Effect.sync(() => {
                for (const record of records) found.set(Letters.show(place), Letters.read(partition, record))
              })
          )
        }
        if (!found.has(Letters.show(place))) {
          return yield* new NoSuchLetter({ place: `${dlqTopic}/${Letters.show(place)}` })
        }
      }
      return yield* withReplays(places.map((place) => found.get(Letters.show(place))!))
    })

    /** Orders and keys of payments that exist. */
    const existing = (orders: ReadonlyArray<bigint>, keys: ReadonlyArray<string>) =>
      sql<{ readonly order_id: string; readonly inventory_key: string | null }>`
        SELECT order_id, inventory_key FROM payment
        WHERE order_id = ANY(${orders.map(String)}::bigint[]) OR inventory_key = ANY(${keys}::uuid[])
      `.pipe(Postgres.run("15 seconds"))

    /** What a replay of these letters would do. Fails with `DatabaseUnavailable`. */
    const plan = Effect.fnUntraced(function*(filed: ReadonlyArray<Filed>, choice: ReplayChoice) {
      const judged = filed.map((one) => [one, judge(one, choice, accepted)] as const)
      const letters = judged.flatMap(([, either]) => Either.isRight(either) ? [either.right] : [])
      const orders = letters.flatMap(({ orderId }) => orderId === undefined ? [] : [orderId])
      const keys = letters.flatMap(({ value }) => Letters.keyIn(value) ?? [])
      const payments = orders.length === 0 ? [] : yield* existing(orders, keys)
      const [paid, taken] = [new Set(payments.map((_) => _.order_id)), new Set(payments.map((_) => _.inventory_key))]
      return {
        letters: letters.map((letter): PlannedLetter =>
          letter.orderId !== undefined &&
            (paid.has(String(letter.orderId)) || taken.has(Letters.keyIn(letter.value) ?? ""))
            ? { ...letter, effect: "has no effect: the order has its payment" }
            : letter
        ),
        leftOut: Plans.leftOut(
          judged.flatMap(([{ letter }, either]) =>
            Either.isLeft(either) ? [[either.left, Letters.show(letter)] as const] : []
          )
        )
      } satisfies LetterPlan
    })

    const note = ({ operator, reason, run }: By, letters: ReadonlyArray<PlannedLetter>) =>
      sql<{ readonly place: string }>`
        INSERT INTO operation (run, operator, action, reason, order_id, place, nth, before, after)
        SELECT ${run}::uuid, ${operator}, 'dead-letters replay', ${reason}, order_id, place, nth, before, after
        FROM unnest(
          ${letters.map(({ letter }) => nameOf(letter))}::text[],
          ${letters.map(({ replays }) => replays.count)}::int[],
          ${letters.map(({ orderId }) => orderId === undefined ? null : String(orderId))}::bigint[],
          ${
        letters.map(({ letter: { original, reason, value } }) =>
          JSON.stringify({ reason, original, value: Letters.noted(value) })
        )
      }::jsonb[],
          ${
        letters.map(({ mended, value }) =>
          JSON.stringify({ topic: inventoryTopic, mended, value: Letters.noted(value) })
        )
      }::jsonb[]
        ) AS t (place, nth, order_id, before, after)
        ORDER BY place
        ON CONFLICT (place, nth) WHERE place IS NOT NULL DO NOTHING
        RETURNING place
      `

    /**
     * Writes the letters of a plan to the inventory topic, oldest first. Fails with `DatabaseUnavailable`, `KafkaUnavailable` or
     * `ReplayRefused`; the steps before are done.
     */
    const replay = ({ letters }: LetterPlan, by: By, { onStep, rate }: Pacing) =>
      Effect.gen(function*() {
        const producer = yield* KafkaProducer.make(kafka)
        let done = 0
        const send = (ready: ReadonlyArray<PlannedLetter>) =>
          producer.send(
            ready.map(({ letter, value }) => Letters.outgoing(letter, value, dlqTopic, inventoryTopic)),
            () => true
          ).pipe(Effect.mapError((error) =>
            error._tag === "KafkaUnavailable"
              ? error
              : new ReplayRefused({
                topic: inventoryTopic,
                reason: error._tag === "SendStopped" || error._tag === "TopicMissing" ? error.message : error.reason
              })
          ))
        const step = (part: ReadonlyArray<PlannedLetter>) =>
          sql.withTransaction(
            Effect.gen(function*() {
              const places = new Set((yield* note(by, part)).map(({ place }) => place))
              const ready = part.filter(({ letter }) => places.has(nameOf(letter)))
              if (ready.length > 0) yield* send(ready)
              return { changed: ready.length, unchanged: part.length - ready.length } satisfies Repaired
            })
          ).pipe(
            Effect.map(Either.right),
            Effect.catchTags({
              KafkaUnavailable: (error) => Effect.succeed(Either.left<KafkaUnavailable | ReplayRefused>(error)),
              ReplayRefused: (error) => Effect.succeed(Either.left<KafkaUnavailable | ReplayRefused>(error))
            }),
            Postgres.run("2 minutes"),
            Effect.flatten,
            Effect.tap(({ changed }) => onStep(done += changed))
          )
        return Plans.sum(yield* Pace.steps(letters.map(Arr.of), rate, step))
      }).pipe(Effect.scoped)

    return { scan, choose, at, plan, replay } as const
  })
}) {}
