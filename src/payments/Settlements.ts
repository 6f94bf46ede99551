import type { Fiber } from "effect"
import { Effect, Exit, Metric, MetricBoundaries, Option } from "effect"
import type { OrderId, PaymentStatus } from "../domain/Payment.js"
import type { DatabaseUnavailable } from "../infra/postgres/Postgres.js"
import * as Signal from "../infra/runtime/Signal.js"
import type { Before, Settlement } from "./PaymentRepo.js"
import { PaymentRepo } from "./PaymentRepo.js"

const groups = Metric.histogram(
  "payments_settlement_group_calls",
  MetricBoundaries.fromIterable([1, 2, 5, 10, 20, 50, 100, 200, 500]),
  "Calls that were committed together"
)

/** Groups under way at a time: one runs in the database while the answers of another are given. */
const lanes = 2
/** Calls of a group at the most. */
const groupLimit = 500
/** Calls that may wait for a row which somebody else holds; the pool keeps connections for the others. */
const aloneLimit = 4

interface Waiting {
  readonly settlement: Settlement
  readonly caller: Fiber.RuntimeFiber<unknown, unknown>
  readonly answer: (answer: Exit.Exit<Before, DatabaseUnavailable>) => void
}

const stillWaits = ({ caller }: Waiting) => caller.unsafePoll() === null

const wasCreated: Before = Option.some("CREATED")

/** What the calls of a group have to be told, when the first of each order has been tried: `others` were not `CREATED`. */
const answers = (
  group: ReadonlyArray<Waiting>,
  first: ReadonlyArray<Settlement>,
  others: ReadonlyMap<OrderId, Before>
): ReadonlyArray<Before> => {
  if (first.length === group.length) return group.map(({ settlement }) => others.get(settlement.orderId) ?? wasCreated)
  const now = new Map(others)
  return group.map(({ settlement: { orderId, outcome } }) => {
    const before = now.get(orderId) ?? wasCreated
    if (before === wasCreated) now.set(orderId, Option.some(outcome))
    return before
  })
}

const firstOfEach = (group: ReadonlyArray<Waiting>): ReadonlyArray<Settlement> => {
  const orders = new Map<OrderId, Settlement>()
  for (const { settlement } of group) if (!orders.has(settlement.orderId)) orders.set(settlement.orderId, settlement)
  return [...orders.values()]
}

/**
 * Settles payments, those together that wait together: a commit costs the same for one and for hundreds.
 *
 * A group is what has gathered while the last one ran; nobody waits for company. Answers the status that the payment
 * had before, none when there is no payment. Fails with `DatabaseUnavailable`, as all of its group do. Who is
 * interrupted before the group is sent is left out of it; afterwards the group is committed or not, whole.
 */
export const make = Effect.gen(function*() {
  const repo = yield* PaymentRepo
  const waiting: Array<Waiting> = []
  const { ring, rung } = Signal.make()
  const aloneOnly = yield* Effect.makeSemaphore(aloneLimit)

  const commit = (group: ReadonlyArray<Waiting>) =>
    // suspended: a bug in any of it is an answer too, and the lane goes on
    Effect.suspend(() => {
      const first = firstOfEach(group)
      return Effect.map(repo.settleAll(first), (others) => {
        groups.unsafeUpdate(group.length, [])
        return answers(group, first, others)
      })
    }).pipe(
      // also a bug and an interruption: nobody is left without an answer
      Effect.onExit((exit) =>
        Effect.sync(() => {
          group.forEach(({ answer }, i) => answer(Exit.map(exit, (befores) => befores[i]!)))
        })
      ),
      Effect.exit
    )

  const commitNext = Effect.suspend(() => {
    const group = waiting.splice(0, groupLimit).filter(stillWaits)
    if (waiting.length > 0) ring()
    return group.length === 0 ? Effect.void : commit(group)
  })

  yield* Effect.whileLoop({ while: () => true, body: () => Effect.zipRight(rung, commitNext), step: () => {} }).pipe(
    Effect.forkScoped,
    Effect.replicateEffect(lanes)
  )

  /** Waits for the row, on a connection of its own, so that a group never has to. */
  const settleAlone = (settlement: Settlement) => aloneOnly.withPermits(1)(repo.settle(settlement))

  return (settlement: Settlement): Effect.Effect<Option.Option<PaymentStatus>, DatabaseUnavailable> =>
    Effect.withFiberRuntime((caller) =>
      Effect.flatMap(
        // nothing is done at an interruption: a group asks who is still there
        Effect.async<Before, DatabaseUnavailable>((answer) => {
          // what the same turn of the event loop brings goes along; a lone call waits for nothing but its end
          if (waiting.push({ settlement, caller, answer }) === 1) setImmediate(ring)
        }),
        (before) => before === "held" ? settleAlone(settlement) : Effect.succeed(before)
      )
    )
})
