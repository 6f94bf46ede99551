import { Clock, Duration, Effect, Metric, Struct } from "effect"
import type { OrderId } from "../domain/Payment.js"
import * as CrashPoint from "../drills/CrashPoint.js"
import * as Trace from "../infra/runtime/Trace.js"
import { Payments } from "../payments/Payments.js"
import type { Reservation } from "../payments/Reservation.js"
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

const stale = Metric.counter("payments_dedupe_stale_total", {
  description: "Keys that Redis remembered and the database did not have: their payments were created",
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

const warnKeyTaken = ({ idempotentKey, orderId }: Reservation, by: OrderId) =>
  Effect.logWarning("an idempotent_key came with another order: no payment was created").pipe(
    Effect.annotateLogs({ idempotentKey, orderId: String(orderId), belongsTo: String(by) })
  )

const none: ReadonlySet<Reservation> = new Set()

/**
 * Gives each reserved order its payment, once.
 *
 * Redis first: of what it knows, one read of the database confirms that the payments are there. Redis may remember more
 * than the database, which was restored, or is another one. One statement creates the payments of the rest; then Redis is
 * told. Redis may be away: the database decides by itself. Fails with `DatabaseUnavailable`; then it may be called again
 * with the same, and nothing was counted.
 */
export const make = Effect.gen(function*() {
  const payments = yield* Payments
  const dedupe = yield* Dedupe
  let [untold, quietUntil] = [0, 0]

  /** One line a minute: a topic that is read again after a restore has thousands of batches. */
  const tellStale = Effect.fnUntraced(function*(keys: number) {
    stale.unsafeUpdate(keys, [])
    untold += keys
    const now = yield* Clock.currentTimeMillis
    if (now < quietUntil) return
    quietUntil = now + Duration.toMillis("1 minute")
    yield* Effect.logWarning("redis remembered keys that the database did not have: their payments were created").pipe(
      Effect.annotateLogs({ payments: untold })
    )
    untold = 0
  })

  return Effect.fnUntraced(function*(reservations: ReadonlyArray<Reservation>) {
    const seen = yield* dedupe.lookup(reservations.map((_) => _.idempotentKey)).pipe(
      Effect.orElseSucceed(() => new Map<string, OrderId>())
    )
    const hits = seen.size === 0 ? [] : reservations.filter((_) => seen.get(_.idempotentKey) === _.orderId)
    const known = hits.length === 0 ? none : yield* payments.confirmed(hits)
    const rest = known.size === 0 ? reservations : reservations.filter((_) => !known.has(_))
    const decisions = rest.length === 0 ? [] : yield* payments.reserve(rest)

    // only what the database holds: what Redis remembers beyond it costs a statement each time
    const committed = rest.filter((_, i) => decisions[i]!._tag === "Created" || decisions[i]!._tag === "Repeated")
    yield* CrashPoint.pass("consumer-committed")
    yield* Effect.ignore(dedupe.remember(committed))
    yield* CrashPoint.pass("consumer-remembered")

    const tally = { Created: 0, Repeated: known.size, OrderTaken: 0, KeyTaken: 0 }
    let forgotten = 0
    const keyTaken: Array<readonly [Reservation, by: OrderId]> = []
    rest.forEach((reservation, i) => {
      const decision = decisions[i]!
      tally[decision._tag]++
      if (decision._tag === "KeyTaken") keyTaken.push([reservation, decision.by])
      if (decision._tag === "Created" && seen.has(reservation.idempotentKey)) forgotten++
    })
    for (const tag of Struct.keys(tally)) if (tally[tag] > 0) counters[tag].unsafeUpdate(tally[tag], [])
    hitsOfPostgres.unsafeUpdate(rest.length - tally.Created, [])
    hitsOfRedis.unsafeUpdate(known.size, [])
    if (forgotten > 0) yield* tellStale(forgotten)
    for (const [reservation, by] of keyTaken) yield* warnKeyTaken(reservation, by)
  }, Trace.span("Intake.reserve"))
})
