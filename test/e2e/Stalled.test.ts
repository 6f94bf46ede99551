import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { eventually } from "../harness/Eventually.js"
import * as Program from "../harness/Program.js"
import * as Topics from "../harness/Topics.js"
import * as World from "../harness/World.js"

it.scopedLive(
  "a consumer that waits for its dead-letter topic shows it on /readyz, in payments_stalled and in one log line",
  () =>
    Effect.gen(function*() {
      const world = yield* World.make()
      const topics = yield* Topics.make(world.kafkaBrokers)
      yield* topics.create(world.inventory, world.dlq)
      const program = yield* Program.serve(["consumer"], { ...world.env, KAFKA_CREATE_TOPICS: "false" })
      yield* program.untilReady
      const stalled = program.metric("payments_stalled", "service=\"inventory-consumer\",for=\"the dead-letter topic\"")
      const lines = (text: string) => program.stderr().split("\n").filter((line) => line.includes(text))

      yield* topics.remove(world.dlq)
      for (const waiting of [1, 2]) {
        yield* topics.write(world.inventory, { value: "malformed", partition: waiting })
        yield* Effect.gen(function*() {
          const { dependencies, ready } = yield* program.readiness
          assert.isFalse(ready)
          assert.include(dependencies["inventory-consumer"]!.reason, world.dlq)
          assert.strictEqual(yield* stalled, waiting)
        }).pipe(eventually("10 seconds"))
      }

      yield* topics.create(world.dlq)
      yield* program.untilReady
      assert.strictEqual(yield* stalled, 0)
      assert.lengthOf(lines("\"waiting for the dead-letter topic: "), 1, program.stderr())
      assert.lengthOf(lines("no longer waiting for the dead-letter topic"), 1, program.stderr())
      assert.strictEqual(yield* program.metric("payments_dead_letters_total"), 2)
    }),
  60_000
)
