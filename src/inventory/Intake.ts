import { Effect, Metric, Struct } from "effect"
import type { OrderId } from "../domain/Payment.js"
import * as CrashPoint from "../drills/CrashPoint.js"
import * as Digest from "../infra/runtime/Digest.js"
import * as Trace from "../infra/runtime/Trace.js"
import { Payments } from "../payments/Payments.js"
import type { Reservation } from "../payments/Reservation.js"
import { Dedupe } from "./Dedupe.js"

const records = Metric.counter("payments_inventory_records_total", {
  description: "Inventory records by outcome",
  incremental: true
})
const ignoredRecords = Metric.counter("payments_inventory_ignored_total", {
  description: "Well-formed inventory records with a status outside INVENTORY_ACCEPT_STATUSES",
  incremental: true
})
const hits = Metric.counter("payments_dedupe_hits_total", {
  description: "Repeats, by the layer that recognised them",
  incremental: true
})

const stale = Metric.counter("payments_dedupe_stale_total", {
  description: "Keys that Redis remembered and the database did not have; their payments were created",
  incremental: true
})

const outcome = (name: string) => Metric.tagged(records, "outcome", name)
const ofStatus = (name: string) => Metric.tagged(ignoredRecords, "status", name)

/** Tagged once, because tagging a counter costs more than counting. */
const counters = {
  Created: outcome("created"),
  Repeated: outcome("repeated"),
  OrderTaken: outcome("order_taken"),
  KeyTaken: outcome("key_taken"),
  ignored: outcome("ignored"),
  malformed: outcome("malformed")
}
/** Labels of the status: these three and `other`, because a record may carry any text. */
const statuses = new Map(["CREATED", "FAILED", "COMPLETED"].map((name) => [name, ofStatus(name)]))
const otherStatus = ofStatus("other")
const [hitsOfRedis, hitsOfPostgres] = [Metric.tagged(hits, "layer", "redis"), Metric.tagged(hits, "layer", "postgres")]

/** Counts the records of a batch without a reservation: ignored ones by status, and malformed ones. */
export const countOthers = (ignored: ReadonlyArray<string>, malformed: number) =>
  Effect.sync(() => {
    for (const status of ignored) (statuses.get(status) ?? otherStatus).unsafeUpdate(1, [])
    if (ignored.length > 0) counters.ignored.unsafeUpdate(ignored.length, [])
    if (malformed > 0) counters.malformed.unsafeUpdate(malformed, [])
  })

/** The metrics of the intake. */
export const metrics = [
  ...Object.values(counters),
  ...statuses.values(),
  otherStatus,
  hitsOfRedis,
  hitsOfPostgres,
  stale
]

interface KeyTaken {
  readonly idempotent_key: string
  readonly order_id: string
  readonly belongs_to: string
}

const logKeyTaken = Digest.make<KeyTaken>(({ count, examples }) =>
  Effect.annotateLogs(
    Effect.logWarning(
      `no payment created for ${count} ${
        count === 1 ? "record" : "records"
      }: the idempotent_key belongs to another order`
    ),
    { count, examples }
  )
)

const logStale = Digest.make<{ readonly order_id: string }>(({ count, examples }) =>
  Effect.annotateLogs(
    Effect.logWarning("redis remembered keys that the database did not have: their payments were created"),
    { count, examples }
  )
)

const none: ReadonlySet<Reservation> = new Set()

/**
 * Returns `reserve`, which creates the payment of each reserved order, once.
 *
 * 1. Redis returns the keys that it remembers. A hit is a hint: Redis may remember more than a restored database.
 * 2. One read of the database confirms the payments of these hits.
 * 3. One statement creates the payments of all other orders.
 * 4. After the commit Redis remembers the keys of step 3 that have a payment.
 *
 * While Redis is away, step 3 handles all orders. Fails with `DatabaseUnavailable` before anything was counted; the caller may
 * call again with the same reservations.
 */
export const make = Effect.gen(function*() {
  const payments = yield* Payments
  const dedupe = yield* Dedupe
  const keyTaken = yield* logKeyTaken
  const staleKey = yield* logStale

  return Effect.fnUntraced(function*(reservations: ReadonlyArray<Reservation>) {
    const seen = yield* dedupe.lookup(reservations.map((_) => _.idempotentKey)).pipe(
      Effect.orElseSucceed(() => new Map<string, OrderId>())
    )
    const hits = seen.size === 0 ? [] : reservations.filter((_) => seen.get(_.idempotentKey) === _.orderId)
    const known = hits.length === 0 ? none : yield* payments.confirmed(hits)
    const rest = known.size === 0 ? reservations : reservations.filter((_) => !known.has(_))
    const decisions = rest.length === 0 ? [] : yield* payments.reserve(rest)

    // only keys with a payment: any other remembered key would cost a read each time
    const committed = rest.filter((_, i) => decisions[i]!._tag === "Created" || decisions[i]!._tag === "Repeated")
    yield* CrashPoint.pass("consumer-committed")
    yield* Effect.ignore(dedupe.remember(committed))
    yield* CrashPoint.pass("consumer-remembered")

    const tally = { Created: 0, Repeated: known.size, OrderTaken: 0, KeyTaken: 0 }
    rest.forEach(({ idempotentKey, orderId }, i) => {
      const decision = decisions[i]!
      tally[decision._tag]++
      if (decision._tag === "KeyTaken") {
        keyTaken({ idempotent_key: idempotentKey, order_id: String(orderId), belongs_to: String(decision.by) })
      }
      if (decision._tag === "Created" && seen.has(idempotentKey)) {
        stale.unsafeUpdate(1, [])
        staleKey({ order_id: String(orderId) })
      }
    })
    for (const tag of Struct.keys(tally)) if (tally[tag] > 0) counters[tag].unsafeUpdate(tally[tag], [])
    hitsOfPostgres.unsafeUpdate(rest.length - tally.Created, [])
    hitsOfRedis.unsafeUpdate(known.size, [])
  }, Trace.span("Intake.reserve"))
})
