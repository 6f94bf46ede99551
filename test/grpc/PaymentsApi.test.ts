import { SqlClient } from "@effect/sql"
import { assert, layer } from "@effect/vitest"
import { Effect, Fiber, Layer, Logger, LogLevel, Schedule } from "effect"
import * as Http2 from "node:http2"
import type { GrpcCallError } from "../../src/grpc/PaymentsClient.js"
import { DatabaseUnavailable } from "../../src/infra/postgres/Postgres.js"
import { Payments } from "../../src/payments/Payments.js"
import * as Locks from "../harness/Locks.js"
import * as PgTest from "../harness/PgTest.js"
import * as Proxy from "../harness/Proxy.js"
import * as Harness from "./Harness.js"

const live = Harness.services.pipe(Layer.provideMerge(PgTest.layer))

const codeOf = <A, E extends { readonly code: string }, R>(call: Effect.Effect<A, E, R>) =>
  Effect.match(call, { onFailure: (error) => error.code, onSuccess: () => "OK" })

const statusesOf = (orderId: bigint) =>
  Effect.map(Harness.eventsOf(orderId), (events) => events.map(({ payload }) => JSON.parse(payload).status))

/** Less than the time limit of a statement. */
const nothingOpen = (transactions: number) =>
  Harness.transactions.pipe(
    Effect.repeat({ until: (open) => open === transactions, schedule: Schedule.spaced("10 millis") }),
    Effect.timeout("3.5 seconds")
  )

layer(live, { excludeTestServices: true })("PaymentsApi", (it) => {
  it.scoped("CREATED: OK, one event, the payment has the asked status", () =>
    Effect.gen(function*() {
      const { client } = yield* Harness.start()
      for (const [orderId, outcome] of [[101n, "COMPLETED"], [102n, "FAILED"]] as const) {
        yield* Harness.reserve(orderId)
        yield* client.updatePaymentStatus(orderId, outcome)
        const [event, ...more] = yield* Harness.eventsOf(orderId)
        assert.match(event!.payload, /^\{"idempotent_key":"[0-9a-f-]{36}","order_id":10[12],"status":"[A-Z]+"\}$/)
        assert.strictEqual(JSON.parse(event!.payload).status, outcome)
        assert.isEmpty(more)
        const payment = yield* client.getPayment(orderId)
        assert.deepStrictEqual([payment.orderId as bigint, payment.status], [orderId, outcome])
        assert.isAtLeast(payment.updatedAt.getTime(), payment.createdAt.getTime())
      }
    }))

  it.scoped("the same status again: OK, and no second event", () =>
    Effect.gen(function*() {
      const { client } = yield* Harness.start()
      yield* Harness.reserve(111n)
      yield* client.updatePaymentStatus(111n, "COMPLETED")
      yield* client.updatePaymentStatus(111n, "COMPLETED")
      assert.deepStrictEqual(yield* statusesOf(111n), ["COMPLETED"])
    }))

  it.scoped("the opposite status: FAILED_PRECONDITION both ways, and nothing changes", () =>
    Effect.gen(function*() {
      const { client } = yield* Harness.start()
      for (const [orderId, first, then] of [[121n, "COMPLETED", "FAILED"], [122n, "FAILED", "COMPLETED"]] as const) {
        yield* Harness.reserve(orderId)
        yield* client.updatePaymentStatus(orderId, first)
        assert.strictEqual(yield* codeOf(client.updatePaymentStatus(orderId, then)), "FAILED_PRECONDITION")
        assert.strictEqual((yield* client.getPayment(orderId)).status, first)
        assert.deepStrictEqual(yield* statusesOf(orderId), [first])
      }
    }))

  it.scoped("no such payment: NOT_FOUND", () =>
    Effect.gen(function*() {
      const { client } = yield* Harness.start()
      assert.strictEqual(yield* codeOf(client.updatePaymentStatus(131n, "COMPLETED")), "NOT_FOUND")
      assert.strictEqual(yield* codeOf(client.getPayment(131n)), "NOT_FOUND")
    }))

  it.scoped("order_id zero or below: INVALID_ARGUMENT, which names the field", () =>
    Effect.gen(function*() {
      const { address, client } = yield* Harness.start()
      for (const orderId of [0n, -1n, -9223372036854775808n]) {
        const error = yield* Effect.flip(client.updatePaymentStatus(orderId, "COMPLETED"))
        assert.strictEqual(error.code, "INVALID_ARGUMENT")
        assert.include(error.details, "order_id")
        assert.strictEqual(yield* codeOf(client.getPayment(orderId)), "INVALID_ARGUMENT")
      }
      // other clients omit zero
      assert.strictEqual(yield* Harness.raw(address, "UpdatePaymentStatus", new Uint8Array()), "INVALID_ARGUMENT")
    }))

  it.scoped("a refusal has a google.rpc.ErrorInfo, with its reason for programs", () =>
    Effect.gen(function*() {
      const { address, client } = yield* Harness.start()
      const sql = yield* SqlClient.SqlClient
      const ofCall = <A, R>(call: Effect.Effect<A, GrpcCallError, R>) =>
        Effect.map(Effect.flip(call), ({ code, metadata, reason }) => [code, reason, metadata])
      yield* Harness.reserve(133n)
      yield* client.updatePaymentStatus(133n, "FAILED")
      const late = ofCall(client.updatePaymentStatus(133n, "COMPLETED"))
      const settled = { order_id: "133", status: "FAILED" }
      assert.deepStrictEqual(yield* late, ["FAILED_PRECONDITION", "PAYMENT_ALREADY_SETTLED", settled])
      yield* sql`UPDATE payment SET reason = 'expired' WHERE order_id = 133`
      assert.deepStrictEqual(yield* late, ["FAILED_PRECONDITION", "PAYMENT_EXPIRED", settled])
      yield* client.updatePaymentStatus(133n, "FAILED")
      assert.deepStrictEqual(yield* ofCall(client.getPayment(132n)), [
        "NOT_FOUND",
        "PAYMENT_NOT_FOUND",
        { order_id: "132" }
      ])
      assert.deepStrictEqual(yield* ofCall(client.getPayment(0n)), [
        "INVALID_ARGUMENT",
        "INVALID_REQUEST",
        { field: "order_id" }
      ])
      // the bytes, as a client reads them that does not share our code
      const details = yield* Harness.detailsOf(address, "GetPayment", Uint8Array.of(0x08, 0x07))
      assert.include(details.toString("latin1"), "type.googleapis.com/google.rpc.ErrorInfo")
      assert.include(
        details.toString("latin1"),
        "\n\x11PAYMENT_NOT_FOUND\x12\x0bpaymentsapi\x1a\r\n\border_id\x12\x017"
      )
      for (
        const [instead, expected] of [
          [Effect.die("a bug"), ["INTERNAL", "INTERNAL", {}]],
          [new DatabaseUnavailable({ cause: new Error("away") }), ["UNAVAILABLE", "DATABASE_UNAVAILABLE", {}]]
        ] as const
      ) {
        const broken = Payments.make({ ...(yield* Payments), ping: instead })
        const other = yield* Harness.start().pipe(Effect.provideService(Payments, broken))
        assert.deepStrictEqual(yield* ofCall(other.client.getPing), [...expected])
      }
    }))

  it.scoped("an absent status means FAILED", () =>
    Effect.gen(function*() {
      const { address, client } = yield* Harness.start()
      yield* Harness.reserve(5n)
      // field 1 is the varint 5; there is no field 2
      assert.strictEqual(yield* Harness.raw(address, "UpdatePaymentStatus", Uint8Array.of(0x08, 0x05)), "OK")
      assert.strictEqual((yield* client.getPayment(5n)).status, "FAILED")
    }))

  it.scoped("an int64 passes unchanged, up to the largest", () =>
    Effect.gen(function*() {
      const { client } = yield* Harness.start()
      for (const orderId of [9007199254740993n, 9223372036854775807n]) {
        yield* Harness.reserve(orderId)
        yield* client.updatePaymentStatus(orderId, "COMPLETED")
        assert.strictEqual<bigint>((yield* client.getPayment(orderId)).orderId, orderId)
        const [event] = yield* Harness.eventsOf(orderId)
        assert.include(event!.payload, `"order_id":${orderId},`)
      }
    }))

  it.scoped("opposite calls at once: one wins with the only event, the other is refused", () =>
    Effect.gen(function*() {
      const { client } = yield* Harness.start()
      const orders = Array.from({ length: 100 }, (_, i) => BigInt(2_000 + i))
      yield* Effect.forEach(orders, (orderId) =>
        Effect.gen(function*() {
          yield* Harness.reserve(orderId)
          const answers = yield* Effect.all([
            codeOf(client.updatePaymentStatus(orderId, "COMPLETED")),
            codeOf(client.updatePaymentStatus(orderId, "FAILED"))
          ], { concurrency: "unbounded" })
          assert.sameMembers(answers, ["OK", "FAILED_PRECONDITION"])
          const winner = answers[0] === "OK" ? "COMPLETED" : "FAILED"
          assert.deepStrictEqual(yield* statusesOf(orderId), [winner])
          assert.strictEqual((yield* client.getPayment(orderId)).status, winner)
        }), { concurrency: 4, discard: true })
    }))

  it.scoped("the same call from many clients at once: all OK, one event", () =>
    Effect.gen(function*() {
      const { client } = yield* Harness.start()
      yield* Harness.reserve(141n)
      yield* Effect.all(Array.from({ length: 20 }, () => client.updatePaymentStatus(141n, "FAILED")), {
        concurrency: "unbounded"
      })
      assert.deepStrictEqual(yield* statusesOf(141n), ["FAILED"])
    }))

  it.scoped("GetPing answers true", () =>
    Effect.gen(function*() {
      const { client } = yield* Harness.start()
      assert.isTrue(yield* client.getPing)
    }))

  it.scoped("a cancelled call leaves no transaction open and no change", () =>
    Effect.gen(function*() {
      const { client } = yield* Harness.start()
      yield* Harness.reserve(151n)
      const row = yield* Harness.lock(151n)
      const call = yield* Effect.fork(client.updatePaymentStatus(151n, "COMPLETED"))
      yield* Locks.waiting(1)
      yield* Fiber.interrupt(call)
      // only the holder's transaction is left
      yield* nothingOpen(1)
      yield* row.release
      assert.strictEqual((yield* client.getPayment(151n)).status, "CREATED")
      assert.isEmpty(yield* statusesOf(151n))
    }))

  it.scoped("a deadline that passes interrupts the call, also when the client never cancels", () =>
    Effect.gen(function*() {
      const { client, port } = yield* Harness.start()
      yield* Harness.reserve(6n)
      const row = yield* Harness.lock(6n)
      const status = yield* Effect.async<unknown>((resume) => {
        const session = Http2.connect(`http://127.0.0.1:${port}`)
        const stream = session.request({
          ":method": "POST",
          ":path": "/paymentsapi.PaymentsApi/UpdatePaymentStatus",
          "content-type": "application/grpc",
          "te": "trailers",
          "grpc-timeout": "300m"
        })
        const answered = (headers: Http2.IncomingHttpHeaders) =>
          headers["grpc-status"] !== undefined && resume(Effect.succeed(headers["grpc-status"]))
        stream.on("response", answered).on("trailers", answered).on("error", () => {})
        stream.end(Buffer.from([0, 0, 0, 0, 2, 0x08, 0x06]))
        return Effect.sync(() => session.destroy())
      })
      assert.strictEqual(status, "4")
      yield* nothingOpen(1)
      yield* row.release
      assert.strictEqual((yield* client.getPayment(6n)).status, "CREATED")
    }))

  it.scoped("a database that does not answer in time: UNAVAILABLE before the usual deadline of 5 seconds", () =>
    Effect.gen(function*() {
      const { client } = yield* Harness.start()
      const stuck = Payments.make({ ...(yield* Payments), ping: Effect.never })
      const other = yield* Harness.start().pipe(Effect.provideService(Payments, stuck))
      yield* Harness.reserve(161n)
      const row = yield* Harness.lock(161n)
      const answers = yield* Effect.all(
        [codeOf(client.updatePaymentStatus(161n, "COMPLETED")), codeOf(other.client.getPing)],
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(answers, ["UNAVAILABLE", "UNAVAILABLE"])
      yield* row.release
      yield* client.updatePaymentStatus(161n, "COMPLETED")
      assert.deepStrictEqual(yield* statusesOf(161n), ["COMPLETED"])
    }))

  it.scoped("a database that is away: UNAVAILABLE in time, and OK when it is back", () =>
    Effect.gen(function*() {
      const proxy = yield* Proxy.make(yield* PgTest.DatabaseUrl)
      yield* Harness.reserve(171n)
      yield* Effect.gen(function*() {
        const { client } = yield* Harness.start()
        yield* client.getPing
        for (const mode of ["refuse", "silent"] as const) {
          yield* proxy.set(mode)
          assert.strictEqual(yield* codeOf(client.getPing), "UNAVAILABLE")
          assert.strictEqual(yield* codeOf(client.updatePaymentStatus(171n, "COMPLETED")), "UNAVAILABLE")
          assert.strictEqual(yield* codeOf(client.getPayment(171n)), "UNAVAILABLE")
          yield* proxy.set("refuse")
          yield* proxy.set("pass")
          yield* client.getPing.pipe(Effect.retry({ times: 10 }))
        }
        yield* client.updatePaymentStatus(171n, "COMPLETED")
      }).pipe(Effect.provide(Layer.fresh(Harness.services).pipe(Layer.provide(Harness.postgresAt(proxy.port)))))
      assert.deepStrictEqual(yield* statusesOf(171n), ["COMPLETED"])
    }), 40_000)

  it.scoped("a bug: INTERNAL without its cause, which is logged once as an error", () =>
    Effect.gen(function*() {
      const lines: Array<string> = []
      const capture = Logger.make<unknown, void>((entry) => {
        lines.push(Logger.stringLogger.log(entry))
      })
      const payments = yield* Payments
      const broken = Payments.make({ ...payments, settle: () => Effect.die(new Error("secret of the house")) })
      const { client } = yield* Harness.start().pipe(
        Effect.provideService(Payments, broken),
        Logger.withMinimumLogLevel(LogLevel.All),
        Effect.provide(Logger.replace(Logger.defaultLogger, capture))
      )
      const error = yield* Effect.flip(client.updatePaymentStatus(1n, "COMPLETED"))
      assert.deepStrictEqual([error.code, error.details], ["INTERNAL", "internal error"])
      assert.lengthOf(lines.filter((line) => line.includes("secret of the house")), 1, lines.join("\n"))
      assert.include(lines.find((line) => line.includes("secret of the house"))!, "level=ERROR")
    }))

  it.scoped("the event carries the trace of the caller", () =>
    Effect.gen(function*() {
      const { client } = yield* Harness.start()
      yield* Harness.reserve(181n)
      const { traceId } = yield* client.updatePaymentStatus(181n, "COMPLETED").pipe(
        Effect.zipRight(Effect.currentSpan),
        Effect.withSpan("caller")
      )
      const [event] = yield* Harness.eventsOf(181n)
      assert.match(event!.traceparent!, new RegExp(`^00-${traceId}-[0-9a-f]{16}-01$`))
    }))

  it.scoped("no statement is left running", () =>
    Effect.gen(function*() {
      yield* SqlClient.SqlClient
      yield* nothingOpen(0)
    }))
})
