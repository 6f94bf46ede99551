import { assert, describe, it } from "@effect/vitest"
import { Clock, Duration, Effect, Fiber } from "effect"
import { randomUUID } from "node:crypto"
import type { AddressInfo, Server } from "node:net"
import { createServer } from "node:net"
import * as Calls from "../harness/Calls.js"
import { eventually } from "../harness/Eventually.js"
import * as Program from "../harness/Program.js"
import * as Proxy from "../harness/Proxy.js"
import * as Tables from "../harness/Tables.js"
import * as Topics from "../harness/Topics.js"
import * as World from "../harness/World.js"

interface Written extends Topics.Written {
  readonly orderId: number
}

/** Settles an order: even ones are paid, odd ones refused. */
const settle = (calls: Effect.Effect.Success<ReturnType<typeof Calls.make>>, orderId: number) =>
  orderId % 2 === 0 ? calls.pay(orderId) : calls.refuse(orderId)
const outcomeOf = (orderId: number) => orderId % 2 === 0 ? "COMPLETED" : "FAILED"

/** Some thousand records a second: enough load for the stop, not too much for the machine. */
const pace = Effect.sleep("10 millis")

/** Writes reservations for ever. */
const reserveForEver = (topics: Topics.Topics, topic: string, written: Array<Written>) =>
  Effect.gen(function*() {
    for (let orderId = 1, partition = 0;; orderId += 25, partition = (partition + 1) % 4) {
      const orders = Array.from({ length: 25 }, (_, i) => orderId + i)
      const messages = orders.map((orderId) => ({ value: Topics.reserved(orderId, randomUUID()) }))
      // uninterruptible, so that `written` lists every batch on the topic
      yield* Effect.uninterruptible(Effect.map(topics.writeAll(topic, partition, messages), (first) => {
        orders.forEach((orderId, i) => written.push({ orderId, partition, offset: String(first + i) }))
      }))
      yield* pace
    }
  })

const elapsed = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.map(Effect.timed(effect), ([duration, value]) => [value, Duration.toMillis(duration)] as const)

const stopsUnderLoad = Effect.fnUntraced(function*(signal: NodeJS.Signals) {
  const world = yield* World.make()
  const topics = yield* Topics.make(world.kafkaBrokers)
  yield* topics.create(world.inventory, world.dlq, world.payment)
  const tables = yield* Tables.make(world.databaseUrl)
  const env = { ...world.env, SHUTDOWN_TIMEOUT: "10s" }

  // small claims, so that the relay falls behind and always has one in hand
  const first = yield* Program.serve([], { ...env, OUTBOX_BATCH_SIZE: "5" })
  yield* first.untilReady
  const written: Array<Written> = []
  const some = Effect.sync(() => assert.isNotEmpty(written)).pipe(eventually())
  const writer = yield* Effect.fork(reserveForEver(topics, world.inventory, written))
  const calls = yield* Calls.make(first.grpc)
  const settled = new Set<number>()
  const payer = Effect.gen(function*() {
    for (let i = 0;; i++) {
      const { orderId } = written[i % written.length]!
      if ((yield* settle(calls, orderId)).code === "OK") settled.add(orderId)
      yield* pace
    }
  })
  const payers = yield* Effect.fork(
    Effect.zipRight(some, Effect.all([payer, payer, payer, payer], { concurrency: "unbounded" }))
  )
  yield* tables.count("payment").pipe(
    Effect.tap((payments) => {
      assert.isAbove(payments, 1_000)
      assert.isAbove(settled.size, 20)
    }),
    eventually()
  )

  yield* first.signal(signal)
  const [ended, millis] = yield* elapsed(first.ended)
  yield* Fiber.interrupt(writer)
  yield* Fiber.interrupt(payers)
  assert.deepStrictEqual(ended, { code: 0, signal: null }, first.stderr())
  assert.isBelow(millis, 20_000)
  assert.strictEqual(yield* tables.count("event WHERE lease_token IS NOT NULL"), 0, "a lease was left behind")
  assert.strictEqual(yield* topics.members(world.group), 0, "the group still has members")

  const paid = new Map(
    (yield* tables.query<Tables.PaymentRow>("SELECT order_id, status FROM payment"))
      .map(({ order_id, status }) => [Number(order_id), status])
  )
  const committed = yield* topics.committed(world.group, world.inventory)
  const passed = written.filter(({ offset, partition }) => Number(offset) < committed.get(partition)!)
  assert.isAbove(passed.length, 0)
  assert.isBelow(passed.length, written.length, "there was no load left at the stop")
  assert.isEmpty(passed.filter(({ orderId }) => !paid.has(orderId)), "an offset is before the database")
  assert.isEmpty([...settled].filter((orderId) => paid.get(orderId) !== outcomeOf(orderId)), "an answer was not kept")

  const second = yield* Program.serve([], env)
  yield* second.untilReady
  const again = yield* Calls.make(second.grpc)
  for (const { orderId } of written.slice(0, 100)) {
    yield* settle(again, orderId).pipe(Effect.tap(({ code }) => assert.strictEqual(code, "OK")), eventually())
    settled.add(orderId)
  }
  yield* Effect.gen(function*() {
    assert.strictEqual(yield* tables.count("payment"), written.length)
    assert.strictEqual(yield* tables.count("event WHERE status <> 'DONE'"), 0)
  }).pipe(eventually("30 seconds"))

  const onTopic = (yield* topics.ends(world.payment)).reduce((sum, { high }) => sum + Number(high), 0)
  const published = yield* topics.follow(world.payment)
  yield* Effect.sync(() => assert.isAtLeast(published.length, onTopic)).pipe(eventually())
  const statuses = new Map<number, Array<string>>()
  for (const record of published) {
    const { order_id, status } = Topics.body(record)
    statuses.set(order_id, [...statuses.get(order_id) ?? [], status])
  }
  assert.strictEqual(statuses.size, written.length)
  for (const { orderId } of written) {
    const expected = settled.has(orderId) ? ["CREATED", outcomeOf(orderId)] : ["CREATED"]
    assert.deepStrictEqual(statuses.get(orderId), expected, `order ${orderId}`)
  }
})

/** A relay alone in its process: no other service keeps the process alive while it finishes. */
const relayStops = Effect.gen(function*() {
  const world = yield* World.make()
  const topics = yield* Topics.make(world.kafkaBrokers)
  yield* topics.create(world.payment)
  const tables = yield* Tables.make(world.databaseUrl)
  yield* Program.run(["migrate"], world.env)
  let orders = 0
  const write = Effect.suspend(() =>
    tables.query(
      `WITH written AS (
         INSERT INTO event (topic, order_id, payload)
         SELECT $1::text, n, format('{"idempotent_key":"%s","order_id":%s,"status":"CREATED"}', gen_random_uuid(), n)
         FROM generate_series($2::bigint, $2::bigint + 4) AS n
       ) SELECT pg_notify('payments_outbox', '')`,
      [world.payment, (orders += 5) - 4]
    )
  )
  const done = tables.count("event WHERE status = 'DONE'")
  const writer = yield* Effect.fork(Effect.forever(Effect.zipLeft(Effect.uninterruptible(write), pace)))
  for (const round of [1, 2, 3, 4, 5]) {
    const before = yield* done
    const relay = yield* Program.serve(["relay"], world.env)
    yield* Effect.tap(done, (now) => assert.isAbove(now, before + 20 * round)).pipe(eventually())
    yield* relay.signal("SIGTERM")
    assert.deepStrictEqual(yield* relay.ended, { code: 0, signal: null }, relay.stderr())
    assert.strictEqual(yield* tables.count("event WHERE lease_token IS NOT NULL"), 0, "a lease was left behind")
  }
  yield* Fiber.interrupt(writer)
  const onTopic = (yield* topics.ends(world.payment)).reduce((sum, { high }) => sum + Number(high), 0)
  assert.strictEqual(onTopic, yield* done, "every sent event is marked, and none was sent twice")
}).pipe(Effect.scoped)

/** A program at work whose database accepts requests and never answers. */
const stuck = Effect.fnUntraced(function*(env: Program.Environment) {
  const world = yield* World.make()
  const proxy = yield* Proxy.make(world.databaseUrl)
  const program = yield* Program.serve([], { ...world.env, ...env, DATABASE_URL: proxy.url })
  yield* program.untilReady
  yield* proxy.set("stall")
  const topics = yield* Topics.make(world.kafkaBrokers)
  yield* topics.write(world.inventory, { value: Topics.reserved(1) })
  yield* program.get("/readyz").pipe(Effect.tap(({ status }) => assert.strictEqual(status, 503)), eventually())
  return program
})

describe("a stop under load", { timeout: 120_000 }, () => {
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    it.scopedLive(
      `${signal}: finishes in time, leaves no lease, and a second process completes the work without doubles`,
      () => stopsUnderLoad(signal)
    )
  }
  it.scopedLive("a relay alone in its process: no lease is left behind, and nothing is sent twice", () => relayStops)
})

describe.concurrent("a stop", { timeout: 120_000 }, () => {
  it.scopedLive("a process that cannot stop in time ends at the limit, with 1 and an error", () =>
    Effect.gen(function*() {
      const program = yield* stuck({ SHUTDOWN_TIMEOUT: "2s" })
      yield* program.signal("SIGTERM")
      const [{ code }, millis] = yield* elapsed(program.ended)
      assert.strictEqual(code, 1)
      assert.isBelow(millis, 10_000)
      assert.include(program.stderr(), "did not stop within SHUTDOWN_TIMEOUT")
    }))

  it.scopedLive("a second signal ends the process at once", () =>
    Effect.gen(function*() {
      const program = yield* stuck({})
      yield* program.signal("SIGTERM")
      yield* Effect.sync(() => assert.include(program.stderr(), "\"stopping\"")).pipe(eventually())
      const at = yield* Clock.currentTimeMillis
      yield* program.signal("SIGTERM")
      const ended = yield* program.ended
      assert.isBelow((yield* Clock.currentTimeMillis) - at, 5_000)
      assert.notDeepEqual(ended, { code: 0, signal: null })
    }))

  it.scopedLive.each(["answers in another protocol", "never answers"])(
    "a process whose Kafka address is a server that %s stops in time, with 0",
    (kind) =>
      Effect.gen(function*() {
        const stranger = yield* Effect.acquireRelease(
          Effect.async<Server>((resume) => {
            const server = createServer((socket) => {
              socket.on("error", () => undefined)
              if (kind !== "never answers") socket.on("data", () => socket.end("HTTP/1.1 400 Bad Request\r\n\r\n"))
            }).listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
          }),
          (server) => Effect.sync(() => server.close())
        )
        const world = yield* World.make()
        const KAFKA_BROKERS = `127.0.0.1:${(stranger.address() as AddressInfo).port}`
        const program = yield* Program.serve([], { ...world.env, KAFKA_BROKERS })
        yield* Effect.tap(program.readiness, ({ dependencies }) => {
          assert.isTrue(dependencies["migrations"]!.ok)
          assert.include(dependencies["payment-topic"]!.reason, "kafka is not available")
        }).pipe(eventually())
        yield* program.signal("SIGTERM")
        const [ended, millis] = yield* elapsed(program.ended)
        assert.deepStrictEqual(ended, { code: 0, signal: null }, program.stderr())
        assert.isBelow(millis, 10_000)
      })
  )

  it.scopedLive("a process that still waits for all its servers stops at once, with 0", () =>
    Effect.gen(function*() {
      const program = yield* Program.serve([], {
        DATABASE_URL: "postgres://payments:payments@127.0.0.1:1/payments",
        REDIS_URL: "redis://127.0.0.1:1",
        KAFKA_BROKERS: "127.0.0.1:1"
      })
      yield* program.get("/readyz").pipe(Effect.tap(({ status }) => assert.strictEqual(status, 503)), eventually())
      yield* program.signal("SIGTERM")
      const [ended, millis] = yield* elapsed(program.ended)
      assert.deepStrictEqual(ended, { code: 0, signal: null }, program.stderr())
      assert.isBelow(millis, 10_000)
    }))
})
