import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Prepare from "../../src/cli/Prepare.js"
import { until } from "../harness/Eventually.js"
import { freePort } from "../harness/FreePort.js"
import * as Fixtures from "../outbox/Fixtures.js"

it.scopedLive(
  "the lag of a consumer says that it waits for brokers which are away from the start",
  () =>
    Effect.gen(function*() {
      const brokers = [`127.0.0.1:${yield* freePort}`]
      const [part, follower] = [Fixtures.part(), Fixtures.part()]
      const options = { topics: [{ topic: "inventory" }], create: true, part, follower }
      yield* Effect.forkScoped(Prepare.topics({ brokers, clientId: "test" }, options))
      for (const each of [part, follower]) {
        assert.include(yield* until(Effect.sync(each.why), (why) => why !== undefined), "kafka is not available")
      }
    }),
  30_000
)
