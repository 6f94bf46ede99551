import { SqlClient } from "@effect/sql"
import { Effect, Either, Schema } from "effect"
import * as InventoryEvent from "../domain/InventoryEvent.js"
import * as InventoryLimits from "../domain/InventoryLimits.js"
import type { KafkaOptions } from "../infra/kafka/KafkaClient.js"
import { attempt, withAdmin } from "../infra/kafka/KafkaClient.js"
import * as KafkaGroupOffsets from "../infra/kafka/KafkaGroupOffsets.js"
import * as KafkaOffsets from "../infra/kafka/KafkaOffsets.js"
import * as KafkaScan from "../infra/kafka/KafkaScan.js"
import * as Postgres from "../infra/postgres/Postgres.js"
import type { By } from "./Operations.js"

/** Consumers run: their next commit would undo the change. */
export class GroupInUse extends Schema.TaggedError<GroupInUse>()("GroupInUse", {
  group: Schema.String,
  members: Schema.Int
}) {
  override get message() {
    return `consumer group ${this.group} has ${this.members} members: stop every process that runs the role consumer, and run the command again`
  }
}

/** A partition of topic `inventory` of which the database lacks records that the group has passed. */
export interface Rewind {
  readonly partition: number
  /** The committed offset. */
  readonly from: number
  /** The first record that the database lacks. */
  readonly to: number
  /** Number of accepted records without a payment. */
  readonly lost: number
}

export interface LostRecordsOptions {
  readonly kafka: KafkaOptions
  readonly group: string
  readonly topic: string
  readonly accept: ReadonlyArray<string>
  /** Milliseconds of the epoch; earlier records are not read. */
  readonly since: number | undefined
}

/**
 * Finds the inventory records that the consumer group has passed, and that have no payment: the offsets ran ahead of a database
 * that was restored, or of a standby that took over before it had everything.
 */
export class LostRecords extends Effect.Service<LostRecords>()("payments/LostRecords", {
  effect: Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient

    const without = (orders: ReadonlyArray<string>, keys: ReadonlyArray<string>) =>
      sql<{ readonly n: number }>`
        SELECT n::int AS n FROM unnest(${[...orders]}::bigint[], ${[
        ...keys
      ]}::uuid[]) WITH ORDINALITY AS record (order_id, key, n)
        WHERE NOT EXISTS (SELECT FROM payment WHERE payment.order_id = record.order_id)
          AND NOT EXISTS (SELECT FROM payment WHERE inventory_key = key)
      `.pipe(Postgres.run("60 seconds"))

    /** Reads the topic up to the committed offsets. The orders of `except` are not lost. */
    const plan = Effect.fn("LostRecords.plan")(function*(options: LostRecordsOptions, except: ReadonlySet<string>) {
      const accept = new Set(options.accept)
      const committed = yield* KafkaOffsets.committed(options.kafka, options.topic, options.group)
      const spans = (yield* KafkaOffsets.spans(options.kafka, options.topic, options.since)).map((span) => ({
        ...span,
        end: Math.min(span.end, committed.get(span.partition) ?? 0)
      }))
      const found = new Map<number, Rewind>()
      yield* KafkaScan.scan(options.kafka, options.topic, spans, (partition, records) =>
        Effect.gen(function*() {
          const accepted = records.flatMap((record) => {
            if (InventoryLimits.refusal(record) !== undefined) return []
            const decoded = InventoryEvent.decode(record.value)
            if (Either.isLeft(decoded) || !accept.has(decoded.right.status)) return []
            const { idempotentKey, orderId } = decoded.right
            return except.has(String(orderId))
              ? []
              : [{ orderId: String(orderId), key: idempotentKey, offset: Number(record.offset) }]
          })
          const lost = yield* without(accepted.map((_) => _.orderId), accepted.map((_) => _.key))
          if (lost.length === 0) return
          const first = Math.min(...lost.map(({ n }) => accepted[n - 1]!.offset))
          const before = found.get(partition)
          found.set(partition, {
            partition,
            from: committed.get(partition)!,
            to: before?.to ?? first,
            lost: (before?.lost ?? 0) + lost.length
          })
        }))
      return [...found.values()].sort((a, b) => a.partition - b.partition)
    })

    /** Fails with `GroupInUse` while the group has members. */
    const unused = ({ group, kafka }: Pick<LostRecordsOptions, "group" | "kafka">) =>
      withAdmin(kafka, (admin) => attempt(() => admin.describeGroups([group]))).pipe(
        KafkaOffsets.untilSettled,
        Effect.flatMap(({ groups }) => {
          const members = groups[0]?.members.length ?? 0
          return members === 0 ? Effect.void : Effect.fail(new GroupInUse({ group, members }))
        })
      )

    /** Sets the committed offsets back, and notes it in table `operation`. */
    const rewind = Effect.fnUntraced(function*(options: LostRecordsOptions, rewinds: ReadonlyArray<Rewind>, by: By) {
      if (rewinds.length === 0) return
      yield* KafkaGroupOffsets.set(
        options.kafka,
        options.group,
        options.topic,
        rewinds.map(({ partition, to }) => ({ partition, offset: String(to) }))
      )
      yield* sql`
        INSERT INTO operation (run, operator, action, reason, before, after)
        SELECT ${by.run}::uuid, ${by.operator}, 'recover', ${by.reason},
               jsonb_build_object('topic', ${options.topic}::text, 'partition', partition, 'offset', was),
               jsonb_build_object('topic', ${options.topic}::text, 'partition', partition, 'offset', now)
        FROM unnest(${rewinds.map((_) => _.partition)}::int[], ${rewinds.map((_) => _.from)}::bigint[], ${
        rewinds.map((_) => _.to)
      }::bigint[]) AS t (partition, was, now)
      `.pipe(Postgres.run("15 seconds"))
    })

    return { plan, unused, rewind } as const
  })
}) {}
