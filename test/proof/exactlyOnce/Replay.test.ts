import { SqlClient } from "@effect/sql"
import { assert, describe, it } from "@effect/vitest"
import { Array as Arr, Effect, Either, Layer, Option, Queue, Scope } from "effect"
import { randomUUID } from "node:crypto"
import * as KafkaOffsets from "../../../src/infra/kafka/KafkaOffsets.js"
import * as KafkaScan from "../../../src/infra/kafka/KafkaScan.js"
import type { Transactions } from "../../../src/infra/kafka/KafkaTransactions.js"
import * as KafkaTransactions from "../../../src/infra/kafka/KafkaTransactions.js"
import type { Batch } from "../../../src/outbox/sharded/ShardBatches.js"
import { ShardBatches } from "../../../src/outbox/sharded/ShardBatches.js"
import type { OwnedShard } from "../../../src/outbox/sharded/ShardOwners.js"
import { ShardOwners } from "../../../src/outbox/sharded/ShardOwners.js"
import * as KafkaTest from "../../harness/KafkaTest.js"
import * as Fixtures from "../../outbox/Fixtures.js"
import { bound } from "../Bounds.js"
import type { Schedule, ScheduleStep } from "./Schedule.js"
import { schedules } from "./Schedule.js"

/** How many schedules of the model are followed on the real parts, and how many at the same time. */
const followed = bound({ standard: 30, large: 160 })
const lanes = 8

/** A database of its own. Leases do not run out by themselves: the schedule says when. */
const Parts = Layer.merge(ShardOwners.Default({ lease: "1 hour" }), ShardBatches.Default).pipe(
  Layer.provideMerge(Fixtures.layer)
)

/** What a relay has of a shard. */
interface Hand {
  owned?: OwnedShard | undefined
  transactions?: Transactions | undefined
  batch?: Batch | undefined
  ahead?: Batch | undefined
  last?: Batch | undefined
}

/** The shard's next owner is whoever asks now, and asks for no other. */
const offerOnly = Effect.fnUntraced(function*(shard: number) {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    UPDATE outbox_shard
    SET owner = coalesce(owner, gen_random_uuid()),
        owned_to = clock_timestamp() + (CASE WHEN shard = ${shard}::int THEN '-1 second' ELSE '1 hour' END)::interval
  `
})

/** Orders that nobody has used yet, of the first shards. */
const ordersOf = Effect.fnUntraced(function*(shards: number) {
  const sql = yield* SqlClient.SqlClient
  return yield* Effect.forEach(Arr.range(0, shards - 1), (shard) =>
    Effect.map(
      sql<{ readonly n: number }>`
        SELECT n::int AS n FROM generate_series(1, 20000) AS n WHERE (hashint8(n) & ${shards - 1}) = ${shard} ORDER BY n
      `,
      (rows) => rows.map(({ n }) => n)
    ))
})

/** Follows a schedule. Answers, by shard, the ids of its events. */
const follow = Effect.fnUntraced(function*(schedule: Schedule, topic: string, unused: Array<Array<number>>) {
  const owners = yield* ShardOwners
  const batches = yield* ShardBatches
  const { batchSize, orders, relays, seed, steps } = schedule
  const scope = yield* Effect.scope

  const ids = yield* Effect.forEach(orders, (ofShard, shard) => {
    const names = new Map<number, number>()
    for (const order of ofShard) if (!names.has(order)) names.set(order, unused[shard]!.shift()!)
    // the first of an order is written before the second
    return Fixtures.append(ofShard.map((order) => names.get(order)!), { topic })
  })
  const hands = Arr.makeBy(relays, (): Array<Hand> => orders.map(() => ({})))

  const take = Effect.fnUntraced(function*({ call, relay, shard }: ScheduleStep, hand: Hand) {
    switch (call) {
      case "acquire": {
        // after an error a relay first tries to go on as the owner that it may still be
        if (hand.owned !== undefined && (yield* owners.refresh(hand.owned))) return true
        yield* offerOnly(shard)
        const [owned] = yield* owners.acquire(1)
        assert.strictEqual(owned?.shard, shard)
        hand.owned = owned!
        return true
      }
      case "fence":
        hand.transactions = yield* Scope.extend(
          KafkaTransactions.open({ ...KafkaTest.kafka(), name: hand.owned!.name, topic, timeout: "2 minutes" }),
          scope
        )
        return true
      case "reconcile": {
        const committed = yield* hand.transactions!.committed
        if (Option.isNone(yield* batches.stateOf(hand.owned!))) return false
        return yield* batches.reconcile(hand.owned!, Option.getOrElse(committed, () => 0n))
      }
      case "claim": {
        const claimed = yield* batches.claim(hand.owned!, batchSize)
        if (Option.isNone(claimed)) return false
        if (claimed.value.events.length > 0) hand[hand.batch === undefined ? "batch" : "ahead"] = claimed.value
        return claimed.value.events.map(({ id }) => ids[shard]!.indexOf(id))
      }
      case "send":
        return Either.isRight(
          yield* Effect.either(hand.transactions!.send(hand.batch!.events.map(Fixtures.record), hand.batch!.number))
        )
      case "commit":
      case "loseCommitAnswer":
        if (Either.isLeft(yield* Effect.either(hand.transactions!.commit))) return false
        hand.last = hand.batch
        hand.batch = hand.ahead
        hand.ahead = undefined
        return true
      case "mark":
        yield* batches.mark(hand.owned!, hand.last!)
        hand.last = undefined
        return true
      case "release":
        yield* owners.release(hand.owned!)
        return true
      case "crash":
        hands[relay] = orders.map(() => ({}))
        return true
    }
  })

  for (const [place, step] of steps.entries()) {
    const hand = hands[step.relay]![step.shard]!
    const is = `seed ${seed}, step ${place}: ${step.call} of relay ${step.relay} for shard ${step.shard}`
    const came = yield* take(step, hand)
    assert.strictEqual(came === false ? "refused" : "done", step.outcome, is)
    if (step.claims !== undefined) assert.deepStrictEqual(came, [...step.claims], is)
    if (step.call === "loseCommitAnswer" || step.outcome === "refused") {
      hand.transactions =
        hand.batch =
        hand.ahead =
        hand.last =
          undefined
    }
    if (step.call === "release" || step.outcome === "refused" && (step.call === "claim" || step.call === "reconcile")) {
      hand.owned = undefined
    }
  }
  return ids
}, Effect.scoped)

/** What a read_committed reader sees: the ids of events, each partition in its order. */
const read = Effect.fnUntraced(function*(topic: string) {
  const spans = yield* KafkaOffsets.spans(KafkaTest.kafka(), topic, undefined)
  const seen: Array<string> = []
  yield* KafkaScan.scan(KafkaTest.kafka(), topic, spans, (_, records) =>
    Effect.sync(() => {
      for (const { headers } of records) seen.push(String(headers!["event-id"]))
    }))
  return seen
})

/** Follows schedules as long as there are any, then compares the topic with all of them. */
const lane = Effect.fnUntraced(function*(waiting: Queue.Dequeue<Schedule>, topic: string) {
  const sql = yield* SqlClient.SqlClient
  yield* sql`UPDATE outbox_shard SET name = ${randomUUID()} || '-' || shard`
  const unused = yield* ordersOf(2)
  const played: Array<{ readonly schedule: Schedule; readonly ids: ReadonlyArray<ReadonlyArray<string>> }> = []
  for (;;) {
    const next = yield* Queue.poll(waiting)
    if (Option.isNone(next)) break
    played.push({ schedule: next.value, ids: yield* follow(next.value, topic, unused) })
  }

  // fenced once more, nothing is on its way any longer
  const names = yield* sql<{ readonly name: string }>`SELECT name FROM outbox_shard`
  yield* Effect.forEach(
    names,
    ({ name }) => Effect.scoped(KafkaTransactions.open({ ...KafkaTest.kafka(), name, topic, timeout: "2 minutes" }))
  )
  const seen = yield* read(topic)
  for (const { ids, schedule } of played) {
    for (const [shard, expected] of schedule.topic.entries()) {
      const is = `seed ${schedule.seed}, shard ${shard}`
      const events = seen.flatMap((id) => ids[shard]!.includes(id) ? [ids[shard]!.indexOf(id)] : [])
      assert.deepStrictEqual([...events].sort(), [...expected].sort(), `${is}: what was seen`)
      for (const order of schedule.orders[shard]!) {
        const ofOrder = (all: ReadonlyArray<number>) => all.filter((event) => schedule.orders[shard]![event] === order)
        assert.deepStrictEqual(ofOrder(events), ofOrder(expected), `${is}: its order`)
      }
    }
  }
  const [left] = yield* sql<{ readonly n: number }>`SELECT count(*)::int AS n FROM event WHERE status <> 'DONE'`
  assert.strictEqual(left!.n, 0, "events are left")
  return played.length
})

describe("P4: exactly-once delivery follows its model", () => {
  it.scopedLive(
    `the real parts follow ${followed} schedules of the model, step by step`,
    () =>
      Effect.gen(function*() {
        const waiting = yield* Queue.unbounded<Schedule>()
        yield* Queue.offerAll(waiting, schedules(followed))
        const topics = yield* Effect.replicateEffect(KafkaTest.freshTopic(), lanes)
        const played = yield* Effect.forEach(topics, (topic) => Effect.provide(lane(waiting, topic), Parts), {
          concurrency: "unbounded"
        })
        assert.strictEqual(Arr.reduce(played, 0, (sum, count) => sum + count), followed)
      }),
    240_000
  )
})
