import type { Fiber } from "effect"
import { Effect, Exit, Metric, MetricBoundaries } from "effect"
import type { OrderId, PaymentStatus } from "../domain/Payment.js"
import type { DatabaseUnavailable } from "../infra/postgres/Postgres.js"
import * as Signal from "../infra/runtime/Signal.js"
import * as Trace from "../infra/runtime/Trace.js"
import type { Before, Settlement } from "./PaymentRepo.js"
import { PaymentRepo } from "./PaymentRepo.js"

const groups = Metric.histogram(
  "payments_settlement_group_calls",
  MetricBoundaries.fromIterable([1, 2, 5, 10, 20, 50, 100, 200, 500]),
  "Calls that were committed together"
)

/** The metrics of settlements. */
export const metrics = [groups]

/** Groups under way at a time: the database runs one while the callers of another get their answers. */
const lanes = 2
/** Calls of a group at the most. */
const groupLimit = 500
/** Calls that may wait for a locked row at a time; the pool keeps connections for the others. */
const aloneLimit = 4

interface Call {
  readonly settlement: Settlement
  readonly caller: Fiber.RuntimeFiber<unknown, unknown>
  readonly answer: (answer: Exit.Exit<Before, DatabaseUnavailable>) => void
}

const callerWaits = ({ caller }: Call) => caller.unsafePoll() === null

/** The first settlement of each order. */
const firstOfEach = (group: ReadonlyArray<Call>): ReadonlyArray<Settlement> => {
  const orders = new Map<OrderId, Settlement>()
  for (const { settlement } of group) if (!orders.has(settlement.orderId)) orders.set(settlement.orderId, settlement)
  return [...orders.values()]
}

/** The answer of each call, from those of the first of each order: a later call finds the status that the first one left. */
const answers = (
  group: ReadonlyArray<Call>,
  first: ReadonlyArray<Settlement>,
  befores: ReadonlyArray<Before>
): ReadonlyArray<Before> => {
  if (first.length === group.length) return befores
  const found = new Map(first.map(({ orderId }, i) => [orderId, befores[i]!]))
  return group.map(({ settlement: { orderId, status } }) => {
    const before = found.get(orderId)!
    if (before === "CREATED") found.set(orderId, status)
    return before
  })
}

/**
 * Settles payments, those that wait at the same time in one group: a commit costs the same for one and for hundreds.
 *
 * A group is the calls that gathered while the last one ran; a call is never delayed to fill a group. Returns the status that
 * the payment had before, or `absent`. Fails with `DatabaseUnavailable` for all calls of a group. A call that is interrupted
 * before its group is sent is left out; after that the group commits or fails as a whole.
 */
export const make = Effect.gen(function*() {
  const repo = yield* PaymentRepo
  const waiting: Array<Call> = []
  const called = Signal.make()
  const alone = yield* Effect.makeSemaphore(aloneLimit)

  const commit = (group: ReadonlyArray<Call>) =>
    // suspended, so that a bug in any of it is an answer too, and the lane goes on
    Effect.suspend(() => {
      const first = firstOfEach(group)
      return Effect.map(repo.settleAll(first), (befores) => {
        groups.unsafeUpdate(group.length, [])
        return answers(group, first, befores)
      })
    }).pipe(
      Trace.shared("Settlements.commit", () => group.flatMap(({ caller }) => Trace.spanOf(caller))),
      // every call gets an answer, also after a bug or an interruption
      Effect.onExit((exit) =>
        Effect.sync(() => {
          group.forEach(({ answer }, i) => answer(Exit.map(exit, (befores) => befores[i]!)))
        })
      ),
      Effect.exit
    )

  const commitNext = Effect.suspend(() => {
    const group = waiting.splice(0, groupLimit).filter(callerWaits)
    if (waiting.length > 0) called.notify()
    return group.length === 0 ? Effect.void : commit(group)
  })

  yield* Effect.whileLoop({ while: () => true, body: () => Effect.zipRight(called.wait, commitNext), step: () => {} })
    .pipe(
      Effect.forkScoped,
      Effect.replicateEffect(lanes)
    )

  /** Waits for the row on a connection of its own, so that no group has to. */
  const settleAlone = (settlement: Settlement) => alone.withPermits(1)(repo.settle(settlement))

  return (settlement: Settlement): Effect.Effect<PaymentStatus | "absent", DatabaseUnavailable> =>
    Effect.withFiberRuntime((caller) =>
      Effect.flatMap(
        // an interruption needs no action: a group leaves out callers that have ended
        Effect.async<Before, DatabaseUnavailable>((answer) => {
          // calls of the same turn of the event loop go along; a lone call waits only until its end
          if (waiting.push({ settlement, caller, answer }) === 1) setImmediate(called.notify)
        }),
        (before) => before === "locked" ? settleAlone(settlement) : Effect.succeed(before)
      )
    )
})
