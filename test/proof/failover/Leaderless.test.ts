import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { eventually } from "../../harness/Eventually.js"
import * as Cluster from "../long/Cluster.js"
import * as Saga from "../Saga.js"

/** The partition that has one replica, and the broker that has it. */
const [lonely, holder] = [3, 3]

/** The others have three replicas. The leader of partition 2 is the broker that dies: it moves. */
const places = new Map([[0, [1, 2, 3]], [1, [2, 1, 3]], [2, [3, 1, 2]], [lonely, [holder]]])

/** Services, of whose topic one partition is on one broker alone. */
const lonelyPartition = Effect.fnUntraced(function*(delivery: string, of: "inventory" | "payment") {
  const cluster = yield* Cluster.make({ inSync: 2, properties: { "leader.imbalance.check.interval.seconds": "2" } })
  const saga = yield* Saga.make({
    servers: { kafkaBrokers: cluster.url },
    env: { OUTBOX_DELIVERY: delivery, OUTBOX_LEASE: "5s" }
  })
  yield* cluster.place(saga.world[of], places)
  yield* cluster.preferred(saga.world[of])
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
