import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type * as Program from "../../harness/Program.js"
import { atLeastOnce, exactlyOnce, limit, make, shared } from "../Relaying.js"
import * as Saga from "../Saga.js"

const stopped = (program: Program.Services) =>
  program.signal("SIGTERM").pipe(
    Effect.zipRight(program.ended),
    Effect.map(({ code }) => assert.strictEqual(code, 0, program.stderr().slice(-2_000)))
  )

describe.concurrent("P4: every event once on the topic, under load", () => {
  it.scopedLive("two relays, one killed and another added", () =>
    Effect.gen(function*() {
      const saga = yield* make()
      const [first, second] = [yield* saga.serve(), yield* saga.serve(["relay"])]
      yield* first.untilReady
      yield* second.untilReady
      yield* shared(first, second)
      yield* saga.outlives(
        Effect.gen(function*() {
          yield* second.signal("SIGKILL")
          assert.strictEqual((yield* second.ended).signal, "SIGKILL")
          yield* saga.more()
          const third = yield* saga.serve(["relay"])
          yield* third.untilReady
          yield* shared(first, third)
          yield* saga.more()
        }),
        Saga.noResends
      )
    }), limit)

  it.scopedLive("the delivery is changed on a running system, and changed back", () =>
    Effect.gen(function*() {
      const saga = yield* make({ env: atLeastOnce })
      yield* saga.serve(["consumer", "grpc"])
      const first = yield* saga.serve(["relay"])
      yield* first.untilReady
      yield* saga.outlives(
        Effect.gen(function*() {
          const second = yield* saga.serve(["relay"], exactlyOnce)
          yield* second.untilReady
          yield* shared(second)
          // both are alive
          yield* saga.more()
          yield* stopped(first)
          yield* saga.more()
          const third = yield* saga.serve(["relay"])
          yield* third.untilReady
          yield* saga.more()
          yield* stopped(second)
          yield* saga.more()
          const batches = yield* saga.tables.count("event WHERE batch IS NOT NULL")
          const all = yield* saga.tables.count("event WHERE status = 'DONE'")
          assert.isAbove(batches, 0, "exactly-once sent nothing")
          assert.isBelow(batches, all, "at-least-once sent nothing")
        }),
        Saga.noResends
      )
    }), limit)
})
