import { assert, layer } from "@effect/vitest"
import { Effect, Layer, Option, Queue } from "effect"
import { randomUUID } from "node:crypto"
import * as Pg from "pg"
import { OrderId } from "../../src/domain/Payment.js"
import { Outbox } from "../../src/outbox/Outbox.js"
import { channel, OutboxWake } from "../../src/outbox/OutboxWake.js"
import { PaymentRepo } from "../../src/payments/PaymentRepo.js"
import { Payments } from "../../src/payments/Payments.js"
import * as PgTest from "../harness/PgTest.js"

const payments = Payments.Default.pipe(
  Layer.provide(PaymentRepo.Default),
  Layer.provide(Outbox.Default({ topic: "payment", lease: "30 seconds", maxAttempts: 10 })),
  Layer.provideMerge(OutboxWake.layerNotify),
  Layer.provideMerge(PgTest.layer)
)

/** A session that listens; answers the statuses of the events that are there when a notification comes. */
const listener = Effect.gen(function*() {
  const client = new Pg.Client({ connectionString: yield* PgTest.DatabaseUrl })
  yield* Effect.acquireRelease(
    Effect.promise(() => client.connect()),
    () => Effect.promise(() => client.end())
  )
  const heard = yield* Queue.unbounded<string>()
  client.on("notification", (notification) => heard.unsafeOffer(notification.channel))
  yield* Effect.promise(() => client.query(`LISTEN ${channel}`))
  /** What had been heard when everything before was. */
  const heardSoFar = Effect.gen(function*() {
    yield* Effect.promise(() => client.query("NOTIFY the_end"))
    yield* Effect.promise(() => client.query("SELECT 1"))
    return [...(yield* Queue.takeAll(heard))]
  })
  yield* Effect.promise(() => client.query("LISTEN the_end"))
  return { heardSoFar }
})

layer(payments, { excludeTestServices: true })("in a process without a relay", (it) => {
  it.scoped("the commit that writes events notifies the relays, and one that writes none does not", () =>
    Effect.gen(function*() {
      const { get, reserve, settle } = yield* Payments
      const { heardSoFar } = yield* listener
      const reservation = { orderId: OrderId.make(1n), idempotentKey: randomUUID(), traceparent: Option.none() }
      yield* reserve([reservation])
      assert.deepStrictEqual(yield* heardSoFar, [channel, "the_end"])
      yield* reserve([reservation])
      assert.deepStrictEqual(yield* heardSoFar, ["the_end"])
      yield* settle(reservation.orderId, "COMPLETED")
      assert.deepStrictEqual(yield* heardSoFar, [channel, "the_end"])
      yield* settle(reservation.orderId, "COMPLETED")
      yield* Effect.exit(settle(reservation.orderId, "FAILED"))
      yield* get(reservation.orderId)
      assert.deepStrictEqual(yield* heardSoFar, ["the_end"])
    }))
})
