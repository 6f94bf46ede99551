import { Effect, Option } from "effect"
import { randomUUID } from "node:crypto"
import type { OrderId, PaymentStatus, TerminalStatus } from "../domain/Payment.js"
import { PaymentAlreadySettled, PaymentNotFound, settlement } from "../domain/Payment.js"
import * as PaymentEvent from "../domain/PaymentEvent.js"
import { DatabaseUnavailable } from "../infra/postgres/Postgres.js"
import * as Trace from "../infra/runtime/Trace.js"
import * as PendingEvents from "../outbox/PendingEvents.js"
import { PaymentRepo } from "./PaymentRepo.js"
import * as Reservation from "./Reservation.js"
import * as Settlements from "./Settlements.js"

/** `settledBy` of payments that no call settled. */
export const expiry = "expiry"

/** Rounds of a reservation in which the database may refuse payments that it does not have. */
const maxRefusals = 3

/** Use cases of payments. Each change and its event are one transaction; the event is dispatched after the commit. */
export class Payments extends Effect.Service<Payments>()("payments/Payments", {
  scoped: Effect.gen(function*() {
    const repo = yield* PaymentRepo
    const pending = yield* PendingEvents.make
    const settleTogether = yield* Settlements.make

    const newEvent = (orderId: OrderId, status: PaymentStatus, traceparent: Option.Option<string>) => ({
      orderId,
      payload: PaymentEvent.encode({ idempotentKey: randomUUID(), orderId, status }),
      traceparent: Option.getOrElse(traceparent, Trace.begin)
    })

    /**
     * Creates the payments of reserved orders. Returns a result for each reservation, in their order. An order and an
     * idempotency key get one payment each, also when reservations are repeated or run at the same time. Fails with
     * `DatabaseUnavailable`; then the caller may repeat it with the same reservations.
     */
    const reserve = Effect.fnUntraced(function*(reservations: ReadonlyArray<Reservation.Reservation>) {
      // one trace for all: to begin one for each costs as much as to decode its record
      const here = Option.getOrElse(yield* Trace.current, Trace.begin)
      const results = new Map<Reservation.Reservation, Reservation.ReservationResult>()
      let open = reservations
      let refusals = 0
      /** The database refused payments that it does not have: their ids are taken, which is repaired, or a foreign rule refuses. */
      const repairIds = Effect.fnUntraced(function*(count: number) {
        yield* Effect.catchTag(repo.repairIds, "IdsStuck", (cause) => new DatabaseUnavailable({ cause }))
        if (++refusals < maxRefusals) return
        return yield* new DatabaseUnavailable({
          cause: new Error(
            `it refuses ${count} payments that it does not have, and their ids are new: look for a trigger or another ` +
              "unique key on table payment"
          )
        })
      })
      while (open.length > 0) {
        const first = Reservation.firstOfEach(open)
        const refused = yield* repo.create(first.map((reservation) => ({
          inventoryKey: reservation.idempotentKey,
          ...newEvent(reservation.orderId, "CREATED", Option.orElseSome(reservation.traceparent, () => here))
        })))
        for (const reservation of first) {
          if (!refused.has(reservation.orderId)) results.set(reservation, Reservation.created)
        }
        const rest = open.filter((reservation) => !results.has(reservation))
        if (rest.length === 0) break
        const existing = yield* repo.existing(rest.map((_) => ({ orderId: _.orderId, inventoryKey: _.idempotentKey })))
        for (const [reservation, result] of Reservation.repeats(rest, existing)) results.set(reservation, result)
        const refusedOnly = first.filter((reservation) => !results.has(reservation))
        if (refusedOnly.length > 0) yield* repairIds(refusedOnly.length)
        // the reservation before them with the same order or key was itself a repeat: the next round creates them
        open = rest.filter((reservation) => !results.has(reservation))
      }
      return reservations.map((reservation) => results.get(reservation)!)
    }, Trace.span("Payments.reserve"))

    /**
     * The reservations whose payment exists, by one read: the payment of that order, created by that key. Fails with
     * `DatabaseUnavailable`.
     */
    const confirmed = (reservations: ReadonlyArray<Reservation.Reservation>) =>
      Effect.map(
        repo.missing(reservations.map((_) => ({ orderId: _.orderId, inventoryKey: _.idempotentKey }))),
        (missing): ReadonlySet<Reservation.Reservation> =>
          new Set(reservations.filter((_, place) => !missing.has(place)))
      )

    /**
     * Settles the payment of an order: `COMPLETED` pays it, `FAILED` refuses it. The status that it has already is no failure
     * and writes nothing. `settledBy` is stored with a payment that this call settles: the name of the caller, without line
     * breaks, at most 200 characters. Fails with `PaymentNotFound`, `PaymentAlreadySettled` (the other status) or `DatabaseUnavailable`.
     */
    const settle = (orderId: OrderId, status: TerminalStatus, settledBy?: string) =>
      Effect.withFiberRuntime<void, PaymentNotFound | PaymentAlreadySettled | DatabaseUnavailable>((fiber) =>
        Effect.flatMap(
          settleTogether({ status, settledBy, ...newEvent(orderId, status, Trace.of(fiber)) }),
          (before): Effect.Effect<void, PaymentNotFound | PaymentAlreadySettled | DatabaseUnavailable> =>
            before === "absent"
              ? new PaymentNotFound({ orderId })
              : settlement[before][status] === "refuse"
              ? alreadySettled(orderId, status === "COMPLETED" ? "FAILED" : "COMPLETED")
              : Effect.void
        )
      )

    const alreadySettled = (orderId: OrderId, status: TerminalStatus) =>
      Effect.flatMap(
        status === "FAILED" ? repo.hasExpired(orderId) : Effect.succeed(false),
        (expired) => new PaymentAlreadySettled({ orderId, status, expired })
      )

    /**
     * Turns the payments of these orders that are still `CREATED` into `FAILED`, with the reason `expired`, in one transaction.
     * Leaves out a payment whose row is locked. Returns the orders of the expired payments. At most 1,000 orders. Fails with
     * `DatabaseUnavailable`.
     */
    const expire = Effect.fnUntraced(function*(orders: ReadonlyArray<OrderId>) {
      const befores = yield* repo.expireAll(
        orders.map((orderId) => ({
          status: "FAILED",
          settledBy: expiry,
          ...newEvent(orderId, "FAILED", Option.none())
        }))
      )
      return orders.filter((_, i) => befores[i] === "CREATED")
    }, Trace.span("Payments.expire"))

    /** The payment of an order. Fails with `PaymentNotFound` or `DatabaseUnavailable`. */
    const get = Effect.fnUntraced(function*(orderId: OrderId) {
      const payment = yield* repo.find(orderId)
      return yield* Option.match(payment, {
        onNone: () => new PaymentNotFound({ orderId }),
        onSome: Effect.succeed
      })
    }, Trace.span("Payments.get"))

    return { reserve, confirmed, settle, expire, get, pending, ping: repo.ping } as const
  })
}) {}
