import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Leaderless from "../../../src/infra/kafka/patches/Leaderless.js"
import * as Patches from "../../../src/infra/kafka/patches/Patches.js"
import { eventually } from "../../harness/Eventually.js"
import type * as Program from "../../harness/Program.js"
import { load } from "../../harness/StockKafkajs.js"
import * as Topics from "../../harness/Topics.js"
import * as Cluster from "../long/Cluster.js"
import * as Saga from "../Saga.js"

// the clients of this file ask for the metadata of topics of which a partition has no leader: stock kafkajs fails then
Patches.install()
Leaderless.patch.install(load)

/** The partition that has one replica, and the broker that has it. */
const [lonely, holder] = [3, 3]

/** The others have three replicas. The leader of partition 2 is the broker that dies: it moves. */
const places = new Map([[0, [1, 2, 3]], [1, [2, 1, 3]], [2, [3, 1, 2]], [lonely, [holder]]])

/** A world, of whose topic one partition is on one broker alone. */
const lonelyWorld = Effect.fnUntraced(function*(delivery: string, of: "inventory" | "payment") {
  const cluster = yield* Cluster.make({ inSync: 2, properties: { "leader.imbalance.check.interval.seconds": "2" } })
  const saga = yield* Saga.make({
    servers: { kafkaBrokers: cluster.url },
    env: { OUTBOX_DELIVERY: delivery, OUTBOX_LEASE: "5s" }
  })
  yield* cluster.place(saga.world[of], places)
  yield* cluster.preferred(saga.world[of])
  return { cluster, saga } as const
})

/** The same with services. */
const lonelyPartition = Effect.fnUntraced(function*(delivery: string, of: "inventory" | "payment") {
  const { cluster, saga } = yield* lonelyWorld(delivery, of)
  const program = yield* saga.serve()
  yield* program.untilReady
  return { cluster, saga, program } as const
})

const deliveries = ["at-least-once", "exactly-once"] as const
const limit = 240_000

describe("P1 P3 P7 P8 P12: a partition without a leader", () => {
  it.scopedLive.each(deliveries)(
    "a partition of topic inventory has no leader, delivery %s: the others go on, and it recovers by itself",
    (delivery) =>
      Effect.gen(function*() {
        const { cluster, program, saga } = yield* lonelyPartition(delivery, "inventory")
        const { tables } = saga
        const [, orders] = yield* saga.outlives(
          Effect.gen(function*() {
            // clients that know which partitions take their records
            yield* saga.writeTo([0, 1])
            yield* cluster.broker(holder).crash
            const before = saga.settled()
            yield* saga.more(100)
            yield* Effect.tap(program.readiness, ({ dependencies, ready }) => {
              assert.isFalse(ready)
              assert.match(dependencies["inventory-consumer"]?.reason ?? "", /partition 3: .*it has no leader/)
            }).pipe(eventually("30 seconds"))
            yield* Effect.sync(() => assert.match(program.stderr(), /waiting for kafka at/)).pipe(
              eventually()
            )
            yield* saga.more(100)
            const orders = saga.settled() - before
            yield* Saga.repair([saga], Effect.zipRight(cluster.broker(holder).start, saga.writeTo([lonely])))
            yield* saga.more()
            yield* saga.writeTo([0, 1, 2, 3])
            return orders
          }),
          { noResends: delivery === "exactly-once" }
        )
        assert.strictEqual(yield* tables.count("event WHERE attempts > 0"), 0)
        console.log(`${delivery}: ${orders} orders meanwhile`)
      }),
    limit
  )

  it.scopedLive.each(deliveries)(
    "a partition of topic inventory has no leader, and the group is new, delivery %s: the others are read, without joining again",
    (delivery) =>
      Effect.gen(function*() {
        const { cluster, saga } = yield* lonelyWorld(delivery, "inventory")
        const { tables, topics, world } = saga
        const early = 20
        // the client of this test must know the leaders before one is missing
        for (const partition of [0, 1, lonely]) {
          const first = (partition + 1) * 1_000_000
          yield* topics.writeAll(
            world.inventory,
            partition,
            Array.from({ length: early }, (_, i) => ({ value: Topics.reserved(first + i) }))
          )
        }
        const read = (partition: number) => tables.count(`payment WHERE order_id / 1000000 = ${partition + 1}`)
        yield* saga.writeTo([0, 1])
        yield* cluster.broker(holder).crash
        yield* Effect.tap(cluster.leaders(world.inventory), (leaders) => assert.strictEqual(leaders.get(lonely), -1))
          .pipe(
            eventually("30 seconds")
          )
        /** How many times the group has had new members, by the brokers that run. */
        const generations = Effect.map(
          Effect.forEach([1, 2], (node) => cluster.broker(node).log),
          (logs) => logs.join("").split(`Stabilized group ${world.group} generation `).length - 1
        )
        const named = (program: Program.Services) =>
          Effect.tap(program.readiness, ({ dependencies, ready }) => {
            assert.isFalse(ready)
            assert.match(dependencies["inventory-consumer"]?.reason ?? "", /partition 3: .*it has no leader/)
          }).pipe(eventually("30 seconds"))

        const first = yield* saga.serve()
        const running = yield* saga.load
        yield* saga.more(100)
        yield* named(first)
        assert.strictEqual(yield* generations, 1)
        assert.deepStrictEqual(yield* Effect.all([read(0), read(1), read(lonely)]), [early, early, 0])

        const second = yield* saga.serve()
        yield* Effect.tap(topics.members(world.group), (members) => assert.strictEqual(members, 2)).pipe(eventually())
        yield* saga.more(100)
        // one of them has the partition
        yield* Effect.raceFirst(named(first), named(second))
        const joined = yield* generations
        assert.isBelow(joined, 5)
        yield* saga.more(100)
        assert.strictEqual(yield* generations, joined)

        const isRead = Effect.tap(read(lonely), (n) => assert.strictEqual(n, early)).pipe(eventually("30 seconds"))
        yield* Saga.repair([saga], Effect.zipRight(cluster.broker(holder).start, isRead))
        yield* saga.writeTo([0, 1, 2, 3])
        yield* saga.more(100)
        yield* saga.judge(running, { noResends: delivery === "exactly-once" })
        assert.strictEqual(yield* tables.count("event WHERE attempts > 0"), 0)
        console.log(`${delivery}: generation 1 alone, ${joined} with two`)
      }),
    limit
  )

  it.scopedLive.each(deliveries)(
    "a partition of topic payment has no leader, delivery %s: payments go on, events of others too if they may, and it recovers",
    (delivery) =>
      Effect.gen(function*() {
        const { cluster, program, saga } = yield* lonelyPartition(delivery, "payment")
        const { tables } = saga
        const exact = delivery === "exactly-once"
        const done = tables.count("event WHERE status = 'DONE'")
        const waiting = tables.count("event WHERE status = 'WAIT'")
        const [, [sent, waited]] = yield* saga.outlives(
          Effect.gen(function*() {
            yield* cluster.broker(holder).crash
            const before = yield* done
            yield* saga.more(200)
            // a transaction that the partition belongs to cannot end, and holds its shard
            const why = exact ? /has no leader|CONCURRENT_TRANSACTIONS/ : /partition 3 of topic .* has no leader/
            // three of four partitions, two events an order
            if (!exact) {
              yield* Effect.tap(done, (n) => assert.isAbove(n - before, 150, "the other partitions stand still")).pipe(
                eventually("60 seconds")
              )
            }
            yield* Effect.tap(program.readiness, ({ dependencies, ready }) => {
              assert.isFalse(ready)
              assert.match(dependencies["outbox-relay"]?.reason ?? "", why)
            }).pipe(eventually("30 seconds"))
            yield* Effect.sync(() => assert.match(program.stderr(), /waiting for kafka at/))
              .pipe(eventually())
            // paying needs no broker
            assert.strictEqual((yield* program.get("/readyz/grpc")).status, 200)
            const sent = (yield* done) - before
            const waited = yield* waiting
            yield* Saga.repair([saga], cluster.broker(holder).start)
            return [sent, waited] as const
          }),
          { noResends: exact }
        )
        assert.strictEqual(yield* tables.count("event WHERE attempts > 0"), 0)
        console.log(`${delivery}: ${sent} events sent meanwhile, ${waited} waited`)
      }),
    limit
  )
})
