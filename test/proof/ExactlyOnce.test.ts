import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { eventually } from "../harness/Eventually.js"
import * as Program from "../harness/Program.js"
import * as Saga from "./Saga.js"

// nobody dies here: a lease that runs out on a busy machine would be a resend
const atLeastOnce = { OUTBOX_DELIVERY: "at-least-once", OUTBOX_LEASE: "30s" }
const exactlyOnce = { OUTBOX_DELIVERY: "exactly-once", OUTBOX_LEASE: "4s" }

/** Several worlds run at the same time. */
const ordersPerSecond = 33
const limit = 200_000

const make = (options: Saga.SagaOptions = {}) => Saga.make({ env: exactlyOnce, ordersPerSecond, ...options })

const stopped = (program: Program.Services) =>
  program.signal("SIGTERM").pipe(
    Effect.zipRight(program.ended),
    Effect.map(({ code }) => assert.strictEqual(code, 0, program.stderr().slice(-2_000)))
  )

/** Ends once these relays have so many shards between them, all there are, and each its share. */
const sharedOf = (all: number, ...relays: ReadonlyArray<Program.Services>) =>
  Effect.forEach(relays, (relay) => relay.metric("payments_shards_owned"), { concurrency: "unbounded" }).pipe(
    Effect.tap((shards) => {
      assert.isAtLeast(Math.min(...shards), Math.floor(all / relays.length), `shards: ${shards.join()}`)
      assert.strictEqual(shards.reduce((sum, count) => sum + count), all, `shards: ${shards.join()}`)
    }),
    eventually("60 seconds")
  )

const shared = (...relays: ReadonlyArray<Program.Services>) => sharedOf(2, ...relays)

const change = (saga: Saga.Saga, shards: number) =>
  Effect.map(
    Program.run(["shards", "--count", String(shards)], { ...saga.world.env, ...exactlyOnce }),
    ({ code, stderr }) => assert.strictEqual(code, 0, stderr)
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
