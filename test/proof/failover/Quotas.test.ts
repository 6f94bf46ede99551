import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { eventually } from "../../harness/Eventually.js"
import * as KafkaVersions from "../../harness/KafkaVersions.js"
import * as Cluster from "../long/Cluster.js"
import * as Saga from "../Saga.js"

/** Quotas of each broker for the client id of the services, and what grows while one holds. */
const quotas = [
  ["producer_byte_rate", 1_000, "payments_events_waiting", 100],
  ["consumer_byte_rate", 200, "payments_consumer_lag_records", 50]
] as const

const deliveries = ["at-least-once", "exactly-once"] as const
const limit = 300_000

/** Services of three brokers, whose client id gets a quota. */
const throttled = Effect.fnUntraced(function*(delivery: string) {
  const libraries = yield* KafkaVersions.libraries
  const cluster = yield* Cluster.make({ inSync: 2 })
  const saga = yield* Saga.make({
    servers: { kafkaBrokers: cluster.url },
    env: { OUTBOX_DELIVERY: delivery, OUTBOX_LEASE: "20s", KAFKA_CLIENT_ID: "throttled" }
  })
  const configure = (...change: ReadonlyArray<string>) =>
    KafkaVersions.tool(
      libraries,
      "kafka.admin.ConfigCommand",
      "--bootstrap-server",
      cluster.url,
      "--alter",
      ...change,
      "--entity-type",
      "clients",
      "--entity-name",
      "throttled"
    )
  const program = yield* saga.serve()
  yield* program.untilReady
  /** How often the brokers have said this. */
  const said = (words: string) =>
    Effect.map(
      Effect.forEach([1, 2, 3], (node) => cluster.broker(node).log),
      (logs) => logs.join("").split(words).length - 1
    )
  return {
    saga,
    program,
    set: (quota: string, value: number) => configure("--add-config", `${quota}=${value}`),
    remove: (quota: string) => configure("--delete-config", quota),
    /** How many times the group has had new members. */
    generations: said(`Stabilized group ${saga.world.group} generation `),
    /** How many transactions the brokers have ended, because they were open for too long. */
    timeouts: said("due to timeout"),
    /** What the service must not have done. */
    unharmed: Effect.gen(function*() {
      assert.strictEqual(yield* saga.tables.count("event WHERE attempts > 0"), 0)
      assert.strictEqual(yield* program.metric("payments_lease_lost_total"), 0)
      assert.notMatch(program.stderr(), /the kafka consumer stopped|not a member/)
    })
  } as const
})

describe("P1 P3 P4 P6 P8: brokers that throttle", () => {
  it.scopedLive.each(deliveries)(
    "quotas for bytes written and bytes read, delivery %s: it slows down, and loses no lease and no member",
    (delivery) =>
      Effect.gen(function*() {
        const { program, remove, saga, set, unharmed } = yield* throttled(delivery)
        const most = new Map<string, number>()
        yield* saga.outlives(
          Effect.forEach(quotas, ([quota, value, metric, least]) =>
            Effect.gen(function*() {
              yield* Effect.tap(program.metric(metric), (n) => assert.isBelow(n, least, `before ${quota}: ${metric}`))
                .pipe(
                  eventually("60 seconds", "200 millis")
                )
              yield* set(quota, value)
              yield* Effect.tap(program.metric(metric), (n) =>
                Effect.sync(() => {
                  most.set(quota, Math.max(most.get(quota) ?? 0, n))
                  assert.isAtLeast(n, least, `${quota}: ${metric}`)
                })).pipe(eventually("60 seconds", "200 millis"))
              // slow, and not at a stand
              yield* saga.more(10)
              assert.strictEqual(yield* saga.topics.members(saga.world.group), 1, `${quota}: members`)
              yield* Saga.repair([saga], remove(quota))
              yield* saga.more(50)
            }), { discard: true }),
          { noResends: delivery === "exactly-once" }
        )
        yield* unharmed
        // the log says what waits while a quota holds
        assert.match(program.stderr(), /waiting for kafka.*partition \d: \d+ records behind/)
        console.log(`${delivery}: most ${JSON.stringify([...most])}`)
      }),
    limit
  )

  it.scopedLive.each(deliveries)(
    "a quota for the time of requests, delivery %s: it slows down, or stands still and says so, and recovers",
    (delivery) =>
      Effect.gen(function*() {
        const { generations, program, remove, saga, set, timeouts, unharmed } = yield* throttled(delivery)
        const { tables } = saga
        const quota = "request_percentage"
        const orders = tables.count("payment")
        const sent = tables.count("event WHERE status = 'DONE'")
        const lag = program.metric("payments_consumer_lag_records")
        const grows = (count: Effect.Effect<number>, by: number, what: string) =>
          Effect.flatMap(count, (before) =>
            Effect.tap(count, (now) => assert.isAtLeast(now, before + by, what)).pipe(
              eventually("60 seconds", "200 millis")
            ))
        const lags = (least: number) =>
          Effect.tap(lag, (n) => assert.isAtLeast(n, least, "records behind")).pipe(
            eventually("60 seconds", "200 millis")
          )
        const [, figures] = yield* saga.outlives(
          Effect.gen(function*() {
            assert.strictEqual(yield* generations, 1)
            yield* set(quota, 1)
            yield* lags(50)
            // slow, and not at a stand: orders begin, and their events are sent
            yield* grows(orders, 10, "no order begins")
            yield* grows(sent, 10, "no event is sent")
            const behind = yield* lag
            yield* remove(quota)
            yield* saga.more(50)

            // each request is over the quota: a broker answers fetches without records
            yield* set(quota, 0.01)
            yield* Effect.tap(program.get("/readyz"), ({ body, status }) => {
              assert.strictEqual(status, 503)
              assert.match(body, /fetches are answered without them/)
            }).pipe(eventually("60 seconds"))
            yield* Effect.sync(() =>
              assert.match(program.stderr(), /waiting for kafka.*fetches are answered without them/)
            )
              .pipe(eventually())
            const began = yield* orders
            const written = saga.begun()
            yield* Effect.sync(() => assert.isAtLeast(saga.begun(), written + 250)).pipe(eventually("60 seconds"))
            const meanwhile = (yield* orders) - began
            // paying needs no broker
            assert.strictEqual((yield* program.get("/readyz/grpc")).status, 200)
            assert.strictEqual(yield* saga.topics.members(saga.world.group), 1)
            yield* unharmed
            const waited = saga.begun() - (yield* orders)
            yield* Saga.repair([saga], remove(quota))
            yield* saga.more(50)
            return { behind, meanwhile, waited }
          }),
          { noResends: delivery === "exactly-once" }
        )
        yield* unharmed
        // one member, which has joined once
        assert.strictEqual(yield* generations, 1)
        console.log(`${delivery}: ${JSON.stringify(figures)}; ${yield* timeouts} transactions timed out`)
      }),
    limit
  )
})
