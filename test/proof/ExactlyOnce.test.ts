import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Saga from "./Saga.js"

const exactlyOnce = { OUTBOX_DELIVERY: "exactly-once", OUTBOX_LEASE: "4s" }

it.scopedLive("two relays, one killed and another added under load: every event once", () =>
  Effect.gen(function*() {
    const saga = yield* Saga.make({ env: exactlyOnce })
    const [first, second] = [yield* saga.serve(), yield* saga.serve(["relay"])]
    yield* first.untilReady
    yield* second.untilReady
    yield* saga.outlives(
      Effect.gen(function*() {
        yield* second.signal("SIGKILL")
        assert.strictEqual((yield* second.ended).signal, "SIGKILL")
        yield* saga.more(200)
        const third = yield* saga.serve(["relay"])
        yield* third.untilReady
        yield* saga.more(200)
      }),
      "--no-resends"
    )
  }), 120_000)
