import { SqlClient } from "@effect/sql"
import { Effect } from "effect"
import type { KafkaOptions } from "../infra/kafka/KafkaClient.js"
import type { Spread } from "../infra/kafka/KafkaPartitioner.js"
import * as KafkaPartitions from "../infra/kafka/KafkaPartitions.js"
import * as Postgres from "../infra/postgres/Postgres.js"
import * as Signal from "../infra/runtime/Signal.js"
import { BrokerContact } from "./BrokerContact.js"
import type { OutboxEvent } from "./OutboxEvent.js"

/** Interval at which a relay asks for the number of partitions. New orders use a new partition that much later. */
const interval = "3 seconds"

/** Milliseconds after which a relay reads the generations again, although the number of partitions is the same. */
const reread = 10_000

/** Milliseconds that a topic must have fewer partitions before a relay accepts it: a broker's metadata may be seconds old. */
const doubt = 30_000

/** A generation of a topic: its orders are spread over this number of partitions. */
interface Generation {
  readonly topic: string
  readonly generation: number
  readonly partitions: number
}

/** The same, shared with the producers, which read it at each attempt. */
type Known = { -readonly [K in keyof Spread]: Spread[K] }

/** More than any topic has: producers wait until the number is known. */
const unknown = Number.POSITIVE_INFINITY

/**
 * The number of partitions over which the orders of a topic are spread, so that the events of an order stay on one.
 *
 * Each larger number of partitions that a relay sees is a generation in `outbox_topic`. A payment keeps the one in which
 * it was created, and its events are hashed over as many partitions as there were then. Where a topic was made again with
 * fewer partitions, the generations that had more get as many as there are.
 */
export class Spreads extends Effect.Service<Spreads>()("payments/Spreads", {
  effect: Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const run = yield* Postgres.runner("5 seconds")
    const topics = new Map<string, Map<number, Known>>()
    const missing = Signal.make()
    const clock = yield* Effect.clock
    const { answered } = yield* BrokerContact

    /** The spread of this event's generation. Its number may change. */
    const of = ({ generation, topic }: OutboxEvent): Spread => {
      let generations = topics.get(topic)
      if (generations === undefined) topics.set(topic, generations = new Map())
      let spread = generations.get(generation)
      if (spread === undefined) {
        generations.set(generation, spread = { partitions: unknown })
        missing.notify()
      }
      return spread
    }

    const know = (rows: ReadonlyArray<Generation>) =>
      Effect.sync(() => {
        for (const { generation, partitions, topic } of rows) {
          const generations = topics.get(topic)
          const known = generations?.get(generation)
          if (known === undefined) generations?.set(generation, { partitions })
          else known.partitions = partitions
        }
      })

    /** Records the number of partitions of a topic if it is a new maximum, and reads all generations of the topic. */
    const see = (topic: string, partitions: number) =>
      sql<Generation>`
        WITH last AS (
          SELECT max(generation) AS generation, max(partitions) AS partitions FROM outbox_topic WHERE topic = ${topic}
        ), grown AS (
          INSERT INTO outbox_topic (topic, generation, partitions)
          SELECT ${topic}, coalesce(generation + 1, 0), ${partitions}::int FROM last
          WHERE last.partitions IS NULL OR last.partitions < ${partitions}::int
          -- another relay recorded it at the same time: the next look reads that row
          ON CONFLICT DO NOTHING
          RETURNING topic, generation, partitions
        )
        SELECT topic, generation, partitions FROM outbox_topic WHERE topic = ${topic}
        UNION ALL SELECT topic, generation, partitions FROM grown
      `.pipe(run, Effect.withTracerEnabled(false))

    /** The topic was made again with fewer partitions. */
    const shrink = Effect.fnUntraced(function*(topic: string, partitions: number) {
      yield* run(sql`
        UPDATE outbox_topic SET partitions = ${partitions}::int WHERE topic = ${topic} AND partitions > ${partitions}::int
      `)
      yield* Effect.logWarning(
        "a topic has fewer partitions than before, so it was made again: orders of a partition that is gone go to another"
      ).pipe(Effect.annotateLogs({ topic, partitions }))
    })

    /** By topic: the last look at its generations. */
    const last = new Map<string, { readonly partitions: number; readonly at: number }>()

    /** By topic: since when (monotonic milliseconds) it has had fewer partitions than its generations. */
    const fewer = new Map<string, number>()

    const look = Effect.fnUntraced(function*(topic: string, partitions: number | undefined) {
      answered()
      if (partitions === undefined) return
      const known = [...topics.get(topic)!.values()].map((spread) => spread.partitions)
      const now = Number(clock.unsafeCurrentTimeNanos() / 1_000_000n)
      if (known.every((most) => most <= partitions || most === unknown)) fewer.delete(topic)
      else {
        const since = fewer.get(topic) ?? now
        fewer.set(topic, since)
        if (now - since < doubt) return
        yield* shrink(topic, partitions)
      }
      const before = last.get(topic)
      const isSame = before?.partitions === partitions && now - before.at < reread && !known.includes(unknown)
      if (isSame) return
      yield* Effect.flatMap(see(topic, partitions), know)
      last.set(topic, { partitions, at: now })
    })

    /** Follows the numbers of partitions, for ever. New events go to topic `main`. */
    const watch = (kafka: KafkaOptions, main: string): Effect.Effect<never> => {
      if (!topics.has(main)) topics.set(main, new Map())
      const pause = Effect.raceFirst(Effect.sleep(interval), missing.wait)
      return KafkaPartitions.follow(kafka, () => topics.keys(), pause, look).pipe(
        // the relay itself reports an outage of the brokers
        Effect.catchAll((error) => Effect.logDebug("the number of partitions is not known", error)),
        Effect.zipRight(Effect.sleep("500 millis")),
        Effect.forever,
        // a stop need not wait for an answer of a broker
        Effect.disconnect
      )
    }

    return { of, watch } as const
  })
}) {}
