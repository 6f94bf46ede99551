import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Saga from "./Saga.js"

it.scopedLive("killed and started again: nothing lost, nothing doubled, order kept", () =>
  Effect.gen(function*() {
    const saga = yield* Saga.make({ env: { OUTBOX_LEASE: "2s" } })
    const first = yield* saga.serve()
    yield* first.untilReady
    yield* saga.outlives(Effect.gen(function*() {
      yield* first.signal("SIGKILL")
      assert.strictEqual((yield* first.ended).signal, "SIGKILL")
      const second = yield* saga.serve()
      yield* second.untilReady
    }))
  }), 120_000)
