import { Effect, Metric, Struct } from "effect"
import * as CrashPoint from "../domain/CrashPoint.js"
import type { OrderId } from "../domain/Payment.js"
import * as Trace from "../infra/Trace.js"
import { Payments } from "../payments/Payments.js"
import type { Decision, Reservation } from "../payments/Reservation.js"
import { Dedupe } from "./Dedupe.js"

const records = Metric.counter("payments_inventory_records_total", {
  description: "Inventory records by what became of them",
  incremental: true
})
const ignoredRecords = Metric.counter("payments_inventory_ignored_total", {
  description: "Well-formed inventory records with a status that is not acted on",
  incremental: true
})
const hits = Metric.counter("payments_dedupe_hits_total", {
  description: "Repeats, by the layer that knew them",
  incremental: true
})

const outcome = (name: string) => Metric.tagged(records, "outcome", name)
const ofStatus = (name: string) => Metric.tagged(ignoredRecords, "status", name)

/** Tagged once: to tag a counter costs more than to count. */
const counters = {
  Created: outcome("created"),
  Repeated: outcome("repeated"),
  OrderTaken: outcome("order_taken"),
  KeyTaken: outcome("key_taken"),
  ignored: outcome("ignored"),
  malformed: outcome("malformed")
}
/** Any text may come as a status: the labels are these four. */
const statuses = new Map(["CREATED", "FAILED", "COMPLETED"].map((name) => [name, ofStatus(name)]))
const otherStatus = ofStatus("other")
const [hitsOfRedis, hitsOfPostgres] = [Metric.tagged(hits, "layer", "redis"), Metric.tagged(hits, "layer", "postgres")]

/** Counts records for which there was nothing to reserve. */
export const countOthers = (ignored: ReadonlyArray<string>, malformed: number) =>
  Effect.sync(() => {
    for (const status of ignored) (statuses.get(status) ?? otherStatus).unsafeUpdate(1, [])
    if (ignored.length > 0) counters.ignored.unsafeUpdate(ignored.length, [])
    if (malformed > 0) counters.malformed.unsafeUpdate(malformed, [])
  })

const repeatOf = ({ orderId }: Reservation, by: OrderId): Decision =>
  by === orderId ? { _tag: "Repeated" } : { _tag: "KeyTaken", by }

const warnKeyTaken = ({ idempotentKey, orderId }: Reservation, by: OrderId) =>
  Effect.logWarning("an idempotent_key came with another order: no payment was created").pipe(
    Effect.annotateLogs({ idempotentKey, orderId: String(orderId), belongsTo: String(by) })
  )

/**
 * Gives each reserved order its payment, once.
 *
 * Redis first, so that repeats cost the database nothing; then one statement; then Redis is told. Redis may be away:
 * the database decides by itself. Fails with `DatabaseUnavailable`, and may be called again with the same.
 */
export const make = Effect.gen(function*() {
  const payments = yield* Payments
  const dedupe = yield* Dedupe

  return Effect.fnUntraced(function*(reservations: ReadonlyArray<Reservation>) {
    const seen = yield* dedupe.lookup(reservations.map((_) => _.idempotentKey)).pipe(
      Effect.orElseSucceed(() => new Map<string, OrderId>())
    )
    const fresh = reservations.filter((_) => !seen.has(_.idempotentKey))
    const known = reservations.filter((_) => seen.has(_.idempotentKey))
    const decisions = fresh.length === 0 ? [] : yield* payments.reserve(fresh)

    // only what the database holds: Redis must never know more than it
    const committed = fresh.filter((_, i) => decisions[i]!._tag === "Created" || decisions[i]!._tag === "Repeated")
    yield* CrashPoint.pass("consumer-committed")
    yield* Effect.ignore(dedupe.remember(committed))
    yield* CrashPoint.pass("consumer-remembered")

    const tally = { Created: 0, Repeated: 0, OrderTaken: 0, KeyTaken: 0 }
    const keyTaken: Array<readonly [Reservation, by: OrderId]> = []
    const add = (reservation: Reservation, decision: Decision) => {
      tally[decision._tag]++
      if (decision._tag === "KeyTaken") keyTaken.push([reservation, decision.by])
    }
    fresh.forEach((reservation, i) => add(reservation, decisions[i]!))
    for (const reservation of known) add(reservation, repeatOf(reservation, seen.get(reservation.idempotentKey)!))
    for (const tag of Struct.keys(tally)) if (tally[tag] > 0) counters[tag].unsafeUpdate(tally[tag], [])
    hitsOfPostgres.unsafeUpdate(fresh.length - tally.Created, [])
    hitsOfRedis.unsafeUpdate(known.length, [])
    for (const [reservation, by] of keyTaken) yield* warnKeyTaken(reservation, by)
  }, Trace.span("Intake.reserve"))
})
