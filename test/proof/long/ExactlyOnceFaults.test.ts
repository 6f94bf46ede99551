import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { type CrashPointName, crashPoints } from "../../../src/drills/CrashPoint.js"
import type { Kind } from "../../chaos/Faults.js"
import { faults } from "../../chaos/Faults.js"
import * as Ground from "../../chaos/Ground.js"
import { eventually } from "../../harness/Eventually.js"
import * as Saga from "../Saga.js"

const limit = 400_000

/** Moments that only the other delivery has. */
const others: ReadonlyArray<string> = ["relay-sent", "relay-renewing"] satisfies ReadonlyArray<CrashPointName>

const pointsOf = (...parts: ReadonlyArray<string>) =>
  (Object.keys(crashPoints) as ReadonlyArray<CrashPointName>)
    .filter((point) => parts.includes(point.split("-")[0]!) && !others.includes(point))

describe.concurrent("P4: every event once on the topic, whatever fails", () => {
  it.scopedLive("a process dies at each crash point, and another one goes on", () =>
    Effect.gen(function*() {
      const saga = yield* Saga.make({
        ordersPerSecond: 15,
        env: { OUTBOX_DELIVERY: "exactly-once", OUTBOX_LEASE: "2s" }
      })
      const running = yield* saga.load

      const dies = Effect.fnUntraced(
        function*(point: CrashPointName, passage: number, ...parts: ReadonlyArray<string>) {
          const victim = yield* saga.serve(parts, {
            PAYMENTS_DRILL: `${point}:${passage}`,
            PAYMENTS_DRILLS_ALLOWED: "true"
          })
          if (point === "consumer-dead-lettered") yield* saga.topics.write(saga.world.inventory, { value: "no event" })
          if (point === "relay-stopping") {
            yield* victim.metric("payments_shards_owned").pipe(
              Effect.tap((shards) => assert.isAbove(shards, 0)),
              eventually("60 seconds")
            )
            yield* victim.signal("SIGTERM")
          }
          const { signal } = yield* victim.ended.pipe(Effect.timeout("60 seconds"))
          assert.strictEqual(signal, "SIGKILL", `${point}: ${victim.stderr().slice(-2_000)}`)
        }
      )

      for (const point of pointsOf("migration")) yield* dies(point, 1)
      // a dead consumer is missed after seconds: meanwhile the others go on dying
      yield* Effect.all([
        Effect.forEach(pointsOf("consumer"), (point) => dies(point, 1, "consumer")),
        Effect.forEach(
          pointsOf("relay", "grpc"),
          (point) => dies(point, point === "relay-stopping" ? 1 : 5, "relay", "grpc")
        )
      ], { concurrency: "unbounded" })
      yield* saga.serve()
      yield* saga.more()
      yield* saga.judge(running, Saga.noResends)
    }), limit)

  it.scopedLive(
    "two instances meet every fault of servers, network and instances",
    () =>
      Effect.gen(function*() {
        const ground = yield* Ground.make({ instances: 2, ordersPerSecond: 20, delivery: "exactly-once" })
        yield* ground.saga.outlives(
          Effect.forEach(
            Object.keys(faults) as ReadonlyArray<Kind>,
            (kind, pick) => Effect.zipRight(faults[kind](ground, { seconds: 1, pick }), ground.saga.more(10)),
            { discard: true }
          ),
          Saga.noResends
        )
        assert.deepStrictEqual(ground.deserted, [])
      }),
    limit
  )
})
