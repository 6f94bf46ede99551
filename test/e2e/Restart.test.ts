import { assert, layer } from "@effect/vitest"
import { Context, Effect, Fiber, Layer, Schedule } from "effect"
import { randomUUID } from "node:crypto"
import * as Calls from "./Calls.js"
import { eventually } from "./Eventually.js"
import * as Program from "./Program.js"
import * as Restartable from "./Restartable.js"
import * as Tables from "./Tables.js"
import * as Topics from "./Topics.js"
import * as World from "./World.js"

const setup = Effect.gen(function*() {
  const [postgres, kafka] = yield* Effect.all([Restartable.make("postgres"), Restartable.make("kafka")], {
    concurrency: 2
  })
  const world = yield* World.make({ databaseUrl: postgres.url, kafkaBrokers: kafka.url })
  const topics = yield* Topics.make(world.kafkaBrokers)
  yield* topics.create(world.inventory, world.dlq, world.payment)
  const program = yield* Program.serve([], { ...world.env, OUTBOX_LEASE: "5s" })
  yield* program.untilReady
  const tables = yield* Tables.make(world.databaseUrl)
  const calls = yield* Calls.make(program.grpc)
  return { postgres, kafka, world, topics, program, tables, calls } as const
})

class Saga extends Context.Tag("test/Saga")<Saga, Effect.Effect.Success<typeof setup>>() {}

const again = Schedule.spaced("20 millis")
/** So that an outage of some seconds leaves hundreds of orders behind, and not tens of thousands. */
const pace = Effect.sleep("30 millis")

/** Reserves and pays orders, one after the other and all the time, while `happening` does what it does to a server. */
const outlives = Effect.fnUntraced(function*(from: number, happening: Effect.Effect<unknown, unknown>) {
  const { calls, program, tables, topics, world } = yield* Saga
  const reserved: Array<number> = []
  const paid = new Set<number>()
  // a client that does not know whether its record was written writes it again
  const reserve = (orderId: number) =>
    Effect.suspend(() => {
      const value = Topics.reserved(orderId, randomUUID())
      return Effect.sandbox(topics.write(world.inventory, { value })).pipe(Effect.retry(again))
    }).pipe(Effect.tap(() => reserved.push(orderId)), Effect.zipLeft(pace))
  const pay = (orderId: number) =>
    Effect.repeat(calls.pay(orderId), { schedule: again, until: ({ code }) => code === "OK" }).pipe(
      Effect.tap(() => paid.add(orderId))
    )
  // asked to end rather than interrupted: what was written is in the list
  let enough = false
  const load = yield* Effect.fork(
    Effect.iterate(from, { while: () => !enough, body: (orderId) => Effect.as(reserve(orderId), orderId + 1) })
  )
  const payer = yield* Effect.fork(
    Effect.iterate(from, { while: () => !enough, body: (orderId) => Effect.as(pay(orderId), orderId + 1) })
  )
  const more = Effect.suspend(() => {
    const goal = paid.size + 30
    return Effect.sync(() => assert.isAbove(paid.size, goal)).pipe(eventually("60 seconds"))
  })
  yield* more
  yield* happening
  yield* more
  enough = true
  yield* Fiber.join(load)
  yield* Fiber.interrupt(payer)
  yield* Effect.forEach(reserved, pay, { concurrency: 8 })

  const mine = `order_id BETWEEN ${from} AND ${from + 99_999}`
  yield* tables.count(`event WHERE status <> 'DONE'`).pipe(
    Effect.tap((waiting) => assert.strictEqual(waiting, 0)),
    eventually("40 seconds")
  )
  assert.strictEqual(yield* tables.count(`payment WHERE ${mine} AND status = 'COMPLETED'`), reserved.length)
  assert.strictEqual(yield* tables.count(`payment WHERE ${mine}`), reserved.length)
  assert.strictEqual(yield* tables.count(`event WHERE ${mine}`), 2 * reserved.length)

  const onTopic = (yield* topics.ends(world.payment)).reduce((sum, { high }) => sum + Number(high), 0)
  const records = yield* topics.follow(world.payment)
  yield* Effect.sync(() => assert.isAtLeast(records.length, onTopic)).pipe(eventually())
  const byOrder = new Map<number, Array<{ readonly event: string; readonly body: string }>>()
  for (const record of records) {
    const seen = { event: String(record.headers["event-id"]), body: record.value!.toString() }
    byOrder.set(Topics.body(record).order_id, [...byOrder.get(Topics.body(record).order_id) ?? [], seen])
  }
  for (const orderId of reserved) {
    const seen = byOrder.get(orderId) ?? []
    // a resend is the same again, and comes before what follows it
    const distinct = seen.filter(({ event }, i) => event !== seen[i - 1]?.event)
    assert.strictEqual(new Set(seen.map(({ body }) => body)).size, 2, `order ${orderId}`)
    assert.lengthOf(distinct, 2, `order ${orderId}`)
    assert.include(distinct[0]!.body, "\"CREATED\"", `order ${orderId}`)
    assert.include(distinct[1]!.body, "\"COMPLETED\"", `order ${orderId}`)
  }
  yield* program.untilReady
})

layer(Layer.scoped(Saga, setup), { timeout: "120 seconds", excludeTestServices: true })("under load", (it) => {
  it.scoped(
    "PostgreSQL crashes and comes back: every order is paid once, its events in order",
    () =>
      Effect.gen(function*() {
        const { postgres } = yield* Saga
        yield* outlives(1, postgres.restart)
      }),
    100_000
  )

  it.scoped(
    "the broker crashes and comes back: every order is paid once, its events in order",
    () =>
      Effect.gen(function*() {
        const { kafka } = yield* Saga
        yield* outlives(100_001, kafka.restart)
      }),
    100_000
  )
})
