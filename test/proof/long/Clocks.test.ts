import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { eventually } from "../../harness/Eventually.js"
import { env, killed, onTopic, order, overtaken, says, slowRelay } from "../Instances.js"
import * as Saga from "../Saga.js"

const preload = (name: string) => ({
  NODE_OPTIONS: `--import=${new URL(`../preload/${name}.mjs`, import.meta.url).href}`
})

describe.concurrent("P3 P6: clocks and event loops", () => {
  it.scopedLive(
    "an event loop that is blocked for longer than the lease and the session: another instance takes over",
    () =>
      Effect.gen(function*() {
        const saga = yield* Saga.make({ env })
        const other = yield* saga.serve()
        const blocked = yield* saga.serve(["consumer", "relay"], {
          ...slowRelay,
          ...preload("BlockedLoop"),
          BLOCK_MILLIS: "8000"
        })
        yield* Effect.forEach([blocked, other], (program) => program.untilReady)
        yield* saga.outlives(Effect.gen(function*() {
          yield* blocked.signal("SIGUSR2")
          yield* says(blocked, "the event loop is blocked")
          yield* overtaken(saga)
          yield* saga.more()
          yield* says(blocked, "the event loop is free")
          yield* blocked.untilReady
        }))
      }),
    150_000
  )

  const hour = 3_600_000
  const clock = (shift: number, zone: string) => ({
    ...preload("ShiftedClock"),
    CLOCK_SHIFT_MILLIS: String(shift),
    TZ: zone
  })

  it.scopedLive(
    "two instances, an hour fast and an hour slow: no lease that is alive is taken",
    () =>
      Effect.gen(function*() {
        const saga = yield* Saga.make({ env: { ...env, OUTBOX_LEASE: "30s" } })
        const fast = yield* saga.serve([], { ...clock(hour, "Pacific/Auckland"), ...slowRelay })
        const slow = yield* saga.serve([], { ...clock(-hour, "America/St_Johns"), ...slowRelay })
        yield* Effect.forEach([fast, slow], (program) => program.untilReady)
        const [shown] = /\d{4}-\d\d-\d\dT[\d:.]+Z/.exec(fast.stderr()) ?? []
        assert.isAbove(Date.parse(shown!), Date.now() + hour / 2, "its clock is right")
        yield* saga.outlives(saga.more(100), Saga.noResends)
      }),
    150_000
  )

  it.scopedLive(
    "a lease that is dead is taken, a refusal backs off for seconds, and only what is old is pruned",
    () =>
      Effect.gen(function*() {
        const saga = yield* Saga.make({ env })
        const first = yield* saga.serve(["relay"], { ...clock(-hour, "America/St_Johns") })
        yield* first.untilReady
        const { tables } = saga
        const event = (orderId: number) =>
          Effect.map(
            tables.query<{ readonly status: string; readonly attempts: number; readonly pause: number }>(
              `SELECT status, attempts, extract(epoch FROM reserved_to - clock_timestamp())::float8 AS pause
             FROM event WHERE order_id = $1`,
              [orderId]
            ),
            ([row]) => row
          )
        // larger than the broker takes
        yield* order(saga, 1, `"${"x".repeat(2_000_000)}"`)
        yield* event(1).pipe(
          Effect.tap((row) => {
            assert.isAtLeast(row!.attempts, 3)
            assert.isBelow(row!.pause, 8)
          }),
          eventually()
        )
        yield* killed(first)
        yield* tables.query("DELETE FROM event")
        yield* tables.query("DELETE FROM payment")

        // a lease of somebody who is gone, an event that is old, and one that is half an hour old
        yield* order(saga, 2)
        yield* tables.query(
          "UPDATE event SET lease_token = gen_random_uuid(), reserved_to = clock_timestamp() + interval '2 seconds'"
        )
        const done = (orderId: number, age: string) =>
          tables.query(
            `INSERT INTO event (topic, order_id, payload, status, created_at, done_at)
           VALUES ('elsewhere', $1, '', 'DONE', clock_timestamp() - $2::interval, clock_timestamp() - $2::interval)`,
            [orderId, age]
          )
        yield* done(3, "90 minutes")
        yield* done(4, "30 minutes")
        const second = yield* saga.serve(["relay"], { ...clock(hour, "Pacific/Auckland"), OUTBOX_RETENTION: "1h" })
        yield* second.untilReady
        yield* Effect.gen(function*() {
          assert.isUndefined(yield* event(3))
          assert.strictEqual((yield* event(2))!.status, "DONE")
        }).pipe(eventually())
        assert.strictEqual((yield* event(4))?.status, "DONE")
        assert.strictEqual(yield* onTopic(saga), 1)
      }),
    120_000
  )
})
