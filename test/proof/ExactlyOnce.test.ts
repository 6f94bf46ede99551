import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Program from "../harness/Program.js"
import { exactlyOnce, limit, make, shared, sharedOf } from "./Relaying.js"
import * as Saga from "./Saga.js"

const change = (saga: Saga.Saga, shards: number) =>
  Effect.map(
    // on a busy machine the take-over of all shards takes longer than the short lease of the relays
    Program.run(["shards", "--count", String(shards)], { ...saga.world.env, ...exactlyOnce, OUTBOX_LEASE: "1m" }),
    ({ code, stderr }) => assert.strictEqual(code, 0, stderr)
  )

describe.concurrent("P4: every event once on the topic, under load", () => {
  it.scopedLive(
    "a relay is frozen for longer than its lease, and goes on as if it owned its shards",
    () =>
      Effect.gen(function*() {
        const saga = yield* make()
        const frozen = yield* saga.serve(["relay"])
        const other = yield* saga.serve()
        yield* Effect.forEach([frozen, other], ({ untilReady }) => untilReady)
        yield* shared(frozen, other)
        yield* saga.outlives(
          Effect.gen(function*() {
            yield* frozen.signal("SIGSTOP")
            // its lease is over: another has all shards
            yield* shared(other)
            yield* saga.more()
            yield* frozen.signal("SIGCONT")
            yield* saga.more()
            yield* shared(frozen, other)
          }),
          Saga.noResends
        )
      }),
    limit
  )

  it.scopedLive(
    "the number of shards is changed, while one relay is frozen and another killed",
    () =>
      Effect.gen(function*() {
        const saga = yield* make()
        const [frozen, killed] = [yield* saga.serve(["relay"]), yield* saga.serve(["relay"])]
        const other = yield* saga.serve()
        yield* Effect.forEach([frozen, killed, other], ({ untilReady }) => untilReady)
        yield* change(saga, 8)
        yield* sharedOf(8, frozen, killed, other)
        yield* saga.outlives(
          Effect.gen(function*() {
            yield* frozen.signal("SIGSTOP")
            yield* killed.signal("SIGKILL")
            yield* change(saga, 16)
            yield* sharedOf(16, other)
            yield* saga.more()
            yield* frozen.signal("SIGCONT")
            yield* saga.more()
            yield* sharedOf(16, frozen, other)
          }),
          Saga.noResends
        )
      }),
    limit
  )
})
