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

describe("P1 P3 P4 P6 P8: brokers that throttle", () => {
  it.scopedLive.each(["at-least-once", "exactly-once"] as const)(
    "quotas for bytes written and bytes read, delivery %s: it slows down, and loses no lease and no member",
    (delivery) =>
      Effect.gen(function*() {
        const libraries = yield* KafkaVersions.libraries
        const cluster = yield* Cluster.make({ inSync: 2 })
        const saga = yield* Saga.make({
          servers: { kafkaBrokers: cluster.url },
          env: { OUTBOX_DELIVERY: delivery, OUTBOX_LEASE: "5s", KAFKA_CLIENT_ID: "throttled" }
        })
        const { tables, topics, world } = saga
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
        const most = new Map<string, number>()
        const [{ found, payment_records }] = yield* saga.outlives(
          Effect.forEach(quotas, ([quota, value, metric, least]) =>
            Effect.gen(function*() {
              yield* Effect.tap(program.metric(metric), (n) => assert.isBelow(n, least, `before ${quota}: ${metric}`))
                .pipe(
                  eventually("60 seconds", "200 millis")
                )
              yield* configure("--add-config", `${quota}=${value}`)
              yield* Effect.tap(program.metric(metric), (n) =>
                Effect.sync(() => {
                  most.set(quota, Math.max(most.get(quota) ?? 0, n))
                  assert.isAtLeast(n, least, `${quota}: ${metric}`)
                })).pipe(eventually("60 seconds", "200 millis"))
              // slow, and not at a stand
              yield* saga.more(10)
              assert.strictEqual(yield* topics.members(world.group), 1, `${quota}: members`)
              yield* configure("--delete-config", quota)
              yield* saga.more(50)
            }), { discard: true }),
          { noResends: delivery === "exactly-once" }
        )
        assert.strictEqual(yield* tables.count("event WHERE attempts > 0"), 0)
        assert.strictEqual(yield* program.metric("payments_lease_lost_total"), 0)
        assert.notMatch(program.stderr(), /the kafka consumer stopped|not a member/)
        // the log says what waits while a quota holds
        assert.match(program.stderr(), /waiting for kafka.*partition \d: \d+ records behind/)
        console.log(`${delivery}: most ${JSON.stringify([...most])}; ${JSON.stringify(found)} of ${payment_records}`)
      }),
    300_000
  )
})
