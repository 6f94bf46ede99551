import { Effect, Option } from "effect"
import { randomUUID } from "node:crypto"
import type { OrderId, Outcome, PaymentStatus } from "../domain/Payment.js"
import { PaymentAlreadySettled, PaymentNotFound, settlement } from "../domain/Payment.js"
import * as PaymentEvent from "../domain/PaymentEvent.js"
import { DatabaseUnavailable } from "../infra/postgres/Postgres.js"
import * as Trace from "../infra/runtime/Trace.js"
import { PaymentRepo } from "./PaymentRepo.js"
import * as Reservation from "./Reservation.js"
import * as Settlements from "./Settlements.js"

/** Rounds of a reservation in which the database may refuse payments that it does not have. */
const maxRefusals = 3

/** What may be done with payments. Every change is one transaction with its event, of which the relay is told. */
export class Payments extends Effect.Service<Payments>()("payments/Payments", {
  scoped: Effect.gen(function*() {
    const repo = yield* PaymentRepo
    const settleTogether = yield* Settlements.make

    const announcement = (orderId: OrderId, status: PaymentStatus, traceparent: Option.Option<string>) => ({
      payload: PaymentEvent.encode({ idempotentKey: randomUUID(), orderId, status }),
      traceparent: Option.getOrElse(traceparent, Trace.begin)
    })

    /**
     * Creates the payments of reserved orders, and answers what became of each reservation, in their order.
     * One payment an order and one an idempotency key, whatever is repeated and by whomever.
     * Fails with `DatabaseUnavailable`; then it may be called again with the same reservations.
     */
    const reserve = Effect.fnUntraced(function*(reservations: ReadonlyArray<Reservation.Reservation>) {
      // one for all: to begin a trace for each would cost as much as to decode its record
      const here = Option.getOrElse(yield* Trace.current, Trace.begin)
      const decided = new Map<Reservation.Reservation, Reservation.Decision>()
      let open = reservations
      let refusals = 0
      /** Payments that are not there were refused: for their ids, which can be mended, or for somebody else's rule. */
      const mend = Effect.fnUntraced(function*(count: number) {
        yield* Effect.catchTag(repo.mendIds, "IdsStuck", (cause) => new DatabaseUnavailable({ cause }))
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
          orderId: reservation.orderId,
          inventoryKey: reservation.idempotentKey,
          ...announcement(reservation.orderId, "CREATED", Option.orElseSome(reservation.traceparent, () => here))
        })))
        for (const reservation of first) {
          if (!refused.has(reservation.orderId)) decided.set(reservation, Reservation.created)
        }
        const rest = open.filter((reservation) => !decided.has(reservation))
        if (rest.length === 0) break
        const known = yield* repo.known(rest.map((_) => ({ orderId: _.orderId, inventoryKey: _.idempotentKey })))
        for (const [reservation, decision] of Reservation.repeats(rest, known)) decided.set(reservation, decision)
        const unknown = first.filter((reservation) => !decided.has(reservation))
        if (unknown.length > 0) yield* mend(unknown.length)
        // its rival of this batch was itself a repeat: the next round creates it
        open = rest.filter((reservation) => !decided.has(reservation))
      }
      return reservations.map((reservation) => decided.get(reservation)!)
    }, Trace.span("Payments.reserve"))

    /**
     * Those of the reservations that have their payment already, by one read: the payment of that order, created by that
     * key. Fails with `DatabaseUnavailable`.
     */
    const confirmed = (reservations: ReadonlyArray<Reservation.Reservation>) =>
      Effect.map(
        repo.missing(reservations.map((_) => ({ orderId: _.orderId, inventoryKey: _.idempotentKey }))),
        (missing): ReadonlySet<Reservation.Reservation> =>
          new Set(reservations.filter((_, place) => !missing.has(place)))
      )

    /**
     * Pays an order, or does not. Asking again for the outcome it has is no failure and writes nothing.
     * Fails with `PaymentNotFound`, `PaymentAlreadySettled` (the other way) or `DatabaseUnavailable`.
     */
    const settle = (orderId: OrderId, outcome: Outcome) =>
      Effect.withFiberRuntime<void, PaymentNotFound | PaymentAlreadySettled | DatabaseUnavailable>((fiber) =>
        Effect.flatMap(
          settleTogether({ orderId, outcome, ...announcement(orderId, outcome, Trace.of(fiber)) }),
          (before): Effect.Effect<void, PaymentNotFound | PaymentAlreadySettled> =>
            Option.isNone(before)
              ? new PaymentNotFound({ orderId })
              : settlement[before.value][outcome] === "refuse"
              ? new PaymentAlreadySettled({ orderId, status: outcome === "COMPLETED" ? "FAILED" : "COMPLETED" })
              : Effect.void
        )
      )

    /** The payment of an order. Fails with `PaymentNotFound` or `DatabaseUnavailable`. */
    const get = Effect.fnUntraced(function*(orderId: OrderId) {
      const payment = yield* repo.find(orderId)
      return yield* Option.match(payment, {
        onNone: () => new PaymentNotFound({ orderId }),
        onSome: Effect.succeed
      })
    }, Trace.span("Payments.get"))

    return { reserve, confirmed, settle, get, ping: repo.ping } as const
  })
}) {}
