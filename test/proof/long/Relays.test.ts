import { assert, describe, it } from "@effect/vitest"
import { Array as Arr, Effect } from "effect"
import { eventually } from "../../harness/Eventually.js"
import { partitionOf } from "../../harness/Murmur2.js"
import * as Program from "../../harness/Program.js"
import * as Topics from "../../harness/Topics.js"
import * as Saga from "../Saga.js"

const limit = 120_000
const hour = 3_600_000

const of = (delivery: string) => ({ OUTBOX_DELIVERY: delivery, OUTBOX_LEASE: "10s", OUTBOX_MAX_ATTEMPTS: "2" })

const clock = (shift: number) => ({
  NODE_OPTIONS: `--import=${new URL("../preload/ShiftedClock.mjs", import.meta.url).href}`,
  CLOCK_SHIFT_MILLIS: String(shift)
})

const pay = (saga: Saga.Saga, orders: ReadonlyArray<number>) =>
  Effect.forEach(orders, (order) => Effect.repeat(saga.ask(order), { until: (code) => code === "OK" }), {
    concurrency: 4,
    discard: true
  })

const reserve = (saga: Saga.Saga, orders: ReadonlyArray<number>) =>
  saga.topics.writeAll(saga.world.inventory, 0, orders.map((order) => ({ value: Topics.reserved(order) })))

const done = ({ tables }: Saga.Saga, events: number) =>
  tables.count("event WHERE status = 'DONE' AND attempts = 0").pipe(
    Effect.tap((count) => assert.strictEqual(count, events)),
    eventually("40 seconds")
  )

/** How often a program has said this. */
const times = (program: Program.Program, text: string) => program.stderr().split(text).length - 1

const says = (program: Program.Program, text: string) =>
  Effect.sync(() => assert.include(program.stderr(), text)).pipe(eventually())

describe.concurrent("P4 P12: relays", () => {
  for (const [delivery, shift] of [["at-least-once", 2 * hour], ["exactly-once", -240 * hour]] as const) {
    it.scopedLive(
      `the clock of the host is ${shift / hour} hours off (${delivery}): records have the database's time`,
      () =>
        Effect.gen(function*() {
          const saga = yield* Saga.make({ env: { ...of(delivery), ...clock(shift) } })
          const program = yield* saga.serve()
          yield* program.untilReady
          const reserved = yield* Program.run(["reserve", "1"], { ...saga.world.env, ...clock(Math.abs(shift)) })
          assert.strictEqual(reserved.code, 0, reserved.stderr)
          yield* saga.topics.write(saga.world.inventory, { value: "no event" })
          yield* done(saga, 1)
          yield* pay(saga, [1])
          yield* done(saga, 2)
          const records = [yield* saga.topics.follow(saga.world.payment), yield* saga.topics.follow(saga.world.dlq)]
          yield* Effect.sync(() => assert.deepStrictEqual(records.map(({ length }) => length), [2, 1])).pipe(
            eventually()
          )
          for (const { timestamp } of records.flat()) assert.closeTo(Number(timestamp), Date.now(), 60_000)
          yield* says(program, shift > 0 ? "ahead of the database's" : "behind the database's")
          assert.strictEqual(times(program, "the database's: records are written"), 1)
          assert.closeTo(yield* program.metric("payments_clock_offset_seconds"), shift / 1_000, 5)
        }),
      limit
    )
  }

  it.scopedLive(
    "a topic gets partitions, with both deliveries running: orders stay, new ones use them all",
    () =>
      Effect.gen(function*() {
        const saga = yield* Saga.make({ env: of("at-least-once") })
        const programs = [yield* saga.serve(), yield* saga.serve(["relay"], of("exactly-once"))]
        yield* Effect.forEach(programs, ({ untilReady }) => untilReady)
        const [old, fresh] = [Arr.range(1, 16), Arr.range(17, 48)]
        yield* reserve(saga, old)
        yield* done(saga, 16)
        yield* saga.topics.grow(saga.world.payment, 12)
        yield* saga.tables.count("outbox_topic WHERE generation = 1 AND partitions = 12").pipe(
          Effect.tap((count) => assert.strictEqual(count, 1)),
          eventually("20 seconds")
        )
        yield* reserve(saga, fresh)
        yield* done(saga, 48)
        yield* pay(saga, [...old, ...fresh])
        yield* done(saga, 96)
        const records = yield* saga.topics.follow(saga.world.payment)
        yield* Effect.sync(() => assert.lengthOf(records, 96)).pipe(eventually())
        for (const { key, partition } of records) {
          assert.strictEqual(partition, partitionOf(key!, Number(String(key)) <= 16 ? 4 : 12), `order ${String(key)}`)
        }
        assert.isAbove(Math.max(...records.map(({ partition }) => partition)), 3)
        yield* saga.audit(Saga.noResends)
      }),
    limit
  )

  it.scopedLive(
    "a statement of an exactly-once relay is broken: it is counted and logged, and ends the process",
    () =>
      Effect.gen(function*() {
        const saga = yield* Saga.make({ env: of("exactly-once") })
        const program = yield* saga.serve(["relay"])
        yield* program.untilReady
        const { tables, world } = saga
        yield* tables.query("ALTER TABLE event RENAME COLUMN traceparent TO gone")
        yield* tables.query(
          `INSERT INTO event (topic, order_id, payload)
         VALUES ($1, 1, '{"idempotent_key":"00000000-0000-4000-8000-000000000001","order_id":1,"status":"CREATED"}')`,
          [world.payment]
        )
        yield* program.metric("payments_service_restarts_total", "outbox-relay").pipe(
          Effect.tap((restarts) => assert.isAbove(restarts, 0)),
          eventually()
        )
        assert.include(program.stderr(), "a bug ended the service, starting it again")
        assert.include(program.stderr(), "column \\\"traceparent\\\" does not exist")
        const { code } = yield* program.ended.pipe(Effect.timeout("60 seconds"))
        assert.notStrictEqual(code, 0)
        assert.include(program.stderr(), "service outbox-relay kept failing")
      }),
    limit
  )
})
