import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { eventually } from "../harness/Eventually.js"
import * as Program from "../harness/Program.js"
import * as Topics from "../harness/Topics.js"
import * as World from "../harness/World.js"

it.scopedLive(
  "a deleted dead-letter topic: /readyz, payments_stalled and one log line say so, paying goes on, and no payload or secret is logged",
  () =>
    Effect.gen(function*() {
      const world = yield* World.make()
      const topics = yield* Topics.make(world.kafkaBrokers)
      const secret = `hush-${world.group}`
      yield* topics.create(world.inventory, world.dlq)
      const program = yield* Program.serve(["consumer", "grpc"], {
        ...world.env,
        KAFKA_CREATE_TOPICS: "false",
        LOG_LEVEL: "Debug",
        SHUTDOWN_TIMOUT: "10s"
      })
      yield* program.untilReady
      const stalled = program.metric("payments_stalled", "part=\"inventory-consumer\",reason=\"dead_letter_topic\"")
      const lines = (text: string) => program.stderr().split("\n").filter((line) => line.includes(text))

      yield* topics.remove(world.dlq)
      for (const waiting of [1, 2]) {
        yield* topics.write(world.inventory, {
          value: `malformed ${secret}`,
          key: secret,
          headers: { secret },
          partition: waiting
        })
        yield* Effect.gen(function*() {
          const { dependencies, ready } = yield* program.readiness
          assert.isFalse(ready)
          assert.include(dependencies["inventory-consumer"]!.reason, world.dlq)
          assert.include(dependencies["inventory-topics"]!.reason, world.dlq)
          assert.strictEqual(yield* stalled, waiting)
        }).pipe(eventually("10 seconds"))
      }

      // the gRPC server needs no topic
      assert.strictEqual((yield* program.get("/readyz/consumer")).status, 503)
      assert.strictEqual((yield* program.get("/readyz/grpc")).status, 200)

      yield* topics.create(world.dlq)
      yield* program.untilReady
      assert.strictEqual(yield* stalled, 0)
      // the log looks once a second
      yield* Effect.sync(() => assert.lengthOf(lines("no longer waiting for the dead-letter topic"), 1)).pipe(
        eventually()
      )
      assert.lengthOf(lines("\"waiting for the dead-letter topic: "), 1, program.stderr())
      assert.strictEqual(yield* program.metric("payments_dead_letters_total"), 2)

      yield* program.signal("SIGTERM")
      yield* program.ended
      const log = lines("").filter((line) => line !== "").map((line) => JSON.parse(line) as Record<string, unknown>)
      for (const line of log) {
        assert.isString(line["message"])
        for (const name of Object.keys(line)) assert.match(name, /^[a-z]+(_[a-z]+)*$/)
      }
      const said = (text: RegExp) => log.filter((line) => text.test(String(line["message"])))
      const [letters] = said(/^2 records became dead letters$/)
      assert.deepInclude(letters, { count: 2, dead_letter_topic: world.dlq })
      assert.sameDeepMembers(
        letters!["examples"] as Array<unknown>,
        [1, 2].map((partition) => ({ partition, offset: "0", reason: "value is not JSON" }))
      )
      assert.lengthOf(said(/^SHUTDOWN_TIMOUT is no setting: .*SHUTDOWN_TIMEOUT\?$/), 1)
      assert.match(String(log.at(-1)!["message"]), /^stopped, after \d+\.\d s$/)
      const password = new URL(world.databaseUrl).password
      for (const hidden of [secret, Buffer.from(secret).toString("hex"), `:${password}@`]) {
        assert.notInclude(program.stderr(), hidden)
      }
    }),
  60_000
)
