import { FastCheck as fc } from "effect"
import type { Outcome } from "./Model.js"

/** Orders and keys of a sequence: so few that they meet all the time. */
export const things = 4

/** A record of topic inventory: which order, which key. */
export type Pair = readonly [order: number, key: number]

/** What the broker does with an event of a claim, or the worker before it. */
export type Fate =
  /** on the topic, and acknowledged */
  | "acked"
  | "refused"
  /** on the topic, and the answer is lost */
  | "unanswered"
  /** neither on the topic nor answered */
  | "lost"
  /** never sent */
  | "unsent"

/** Steps that may run at the same time as others. A claim is named by its number, of those there are. */
export type Single =
  | { readonly _tag: "Reserve"; readonly batch: ReadonlyArray<Pair> }
  | { readonly _tag: "Settle"; readonly order: number; readonly outcome: Outcome }
  | { readonly _tag: "Claim"; readonly limit: number }
  | { readonly _tag: "Mark" | "Renew"; readonly claim: number }

export type Step =
  | Single
  | { readonly _tag: "Race"; readonly steps: ReadonlyArray<Single> }
  /** Records as the consumer takes them, with Redis; perhaps it crashes. */
  | { readonly _tag: "Records"; readonly batch: ReadonlyArray<Pair>; readonly crash: Crash }
  /** Records of an earlier step again. */
  | { readonly _tag: "Replay"; readonly of: number }
  | { readonly _tag: "FlushRedis" }
  | { readonly _tag: "Publish"; readonly claim: number; readonly fates: ReadonlyArray<Fate> }
  | { readonly _tag: "Refuse"; readonly claim: number }
  | { readonly _tag: "Release"; readonly claim: number; readonly later: boolean }
  /** A relay beside those who write: it is handed their events until it stops well, or dies. */
  | { readonly _tag: "Relay"; readonly does: "comes" | "stops" | "dies" }
  /** It takes what it was handed: a claim. */
  | { readonly _tag: "Receive"; readonly limit: number }
  /** The worker is gone, and what it held is in its lease. */
  | { readonly _tag: "Crash"; readonly claim: number }
  /** The sequences of payments and events go back: new rows get ids below those that are there, and then theirs. */
  | { readonly _tag: "SetBack"; readonly by: number }
  /** The database's clock passes the lease of a claim, or all leases and pauses. */
  | { readonly _tag: "Expire"; readonly claim: number | "all" }

export type Crash = "none" | "consumer-committed" | "consumer-remembered"

const thing = fc.nat({ max: things - 1 })
const outcome = fc.constantFrom<Outcome>("COMPLETED", "FAILED")
const claim = fc.nat({ max: 3 })
const batch = fc.array(
  fc.oneof({ weight: 3, arbitrary: thing.map((n): Pair => [n, n]) }, {
    weight: 2,
    arbitrary: fc.tuple(thing, thing)
  }),
  { minLength: 1, maxLength: 5 }
)

const reserve = batch.map((batch): Single => ({ _tag: "Reserve", batch }))
const settle = fc.tuple(thing, outcome).map(([order, outcome]): Single => ({ _tag: "Settle", order, outcome }))
const take = fc.integer({ min: 1, max: 6 }).map((limit): Single => ({ _tag: "Claim", limit }))
const mark = claim.map((claim): Single => ({ _tag: "Mark", claim }))
const renew = claim.map((claim): Single => ({ _tag: "Renew", claim }))

const rivals = fc.oneof(
  fc.array(fc.oneof(reserve, settle, take, mark, renew), { minLength: 2, maxLength: 3 }),
  // over one order
  fc.tuple(thing, fc.array(outcome, { minLength: 2, maxLength: 4 })).map(([order, outcomes]) =>
    outcomes.map((outcome): Single => ({ _tag: "Settle", order, outcome }))
  ),
  fc.tuple(take, take, take).map((_) => [..._])
).map((steps): Step => ({ _tag: "Race", steps }))

const fate = fc.oneof(
  { weight: 8, arbitrary: fc.constant<Fate>("acked") },
  { weight: 4, arbitrary: fc.constantFrom<Fate>("refused", "unanswered", "lost", "unsent") }
)
const publish = fc.tuple(claim, fc.array(fate, { minLength: 1, maxLength: 4 })).map(([claim, fates]): Step => ({
  _tag: "Publish",
  claim,
  fates
}))

/** What must have become of an event of a claim, for a step to have something to do. */
const needs = (step: Step): ReadonlyArray<Fate> =>
  step._tag === "Refuse" ? ["refused"] : step._tag === "Release" ? ["unsent"] : []

/** A worker takes events all the way, or some of it. */
const turn = fc.tuple(
  take,
  fc.array(fate, { minLength: 1, maxLength: 4 }),
  fc.oneof(
    { weight: 3, arbitrary: fc.subarray<Step>([{ _tag: "Renew", claim: 0 }]) },
    {
      weight: 1,
      arbitrary: fc.subarray<Step>([
        { _tag: "Refuse", claim: 0 },
        { _tag: "Release", claim: 0, later: true },
        { _tag: "Release", claim: 0, later: false }
      ], { minLength: 1 })
    }
  )
).map(([take, fates, rest]): ReadonlyArray<Step> => [
  take,
  { _tag: "Publish", claim: 0, fates: [...new Set(rest.flatMap(needs)), ...fates] },
  { _tag: "Mark", claim: 0 },
  ...rest
])

/** Events are leased to a relay as they are written, and it takes them all the way, or some of it. */
const handed = fc.tuple(
  fc.array(fc.tuple(thing, outcome), { minLength: 1, maxLength: 3 }),
  turn,
  fc.constantFrom("comes" as const, "stops" as const, "dies" as const, undefined)
).map(([settled, [, ...rest], then]): ReadonlyArray<Step> => [
  { _tag: "Relay", does: "comes" },
  { _tag: "Reserve", batch: settled.map(([order]) => [order, order]) },
  { _tag: "Receive", limit: 6 },
  ...rest,
  ...settled.map(([order, outcome]): Step => ({ _tag: "Settle", order, outcome })),
  ...then === undefined ? [] : [{ _tag: "Relay", does: then } as const],
  { _tag: "Receive", limit: 6 },
  ...rest
])

/** A worker that is too slow, or dies, after the broker had its events; another takes over. */
const lapse = fc.tuple(
  turn,
  fc.constantFrom<Fate>("acked", "unanswered"),
  fc.constantFrom("dies" as const, "marks late" as const, "gives up" as const),
  turn
).map(([[take], fate, then, again]): ReadonlyArray<Step> => [
  take!,
  { _tag: "Publish", claim: 0, fates: [fate] },
  ...then === "dies"
    ? [{ _tag: "Crash", claim: 0 } as const, { _tag: "Expire", claim: "all" } as const]
    : [{ _tag: "Expire", claim: 0 } as const],
  ...again,
  ...then === "marks late" ? [{ _tag: "Mark", claim: 1 } as const] : []
])

/** Orders that are reserved and then settled. */
const life = fc.array(fc.tuple(thing, outcome), { minLength: 1, maxLength: 3 }).map((settled): ReadonlyArray<Step> => [
  { _tag: "Records", batch: settled.map(([order]) => [order, order]), crash: "none" },
  ...settled.map(([order, outcome]): Step => ({ _tag: "Settle", order, outcome }))
])

const one = (weight: number, step: fc.Arbitrary<Step>) => ({ weight, arbitrary: step.map((step) => [step]) })

/** A sequence of steps. */
export const sequence: fc.Arbitrary<ReadonlyArray<Step>> = fc.tuple(
  life,
  fc.array(
    fc.oneof(
      one(
        5,
        fc.tuple(batch, fc.constantFrom<Crash>("none", "none", "consumer-committed", "consumer-remembered")).map((
          [batch, crash]
        ): Step => ({ _tag: "Records", batch, crash }))
      ),
      one(2, reserve),
      one(2, fc.nat().map((of): Step => ({ _tag: "Replay", of }))),
      one(5, settle),
      { weight: 5, arbitrary: life },
      { weight: 9, arbitrary: turn },
      { weight: 4, arbitrary: lapse },
      { weight: 4, arbitrary: handed },
      one(
        3,
        fc.constantFrom("comes" as const, "comes" as const, "stops" as const, "dies" as const).map((does): Step => ({
          _tag: "Relay",
          does
        }))
      ),
      one(4, fc.integer({ min: 1, max: 6 }).map((limit): Step => ({ _tag: "Receive", limit }))),
      one(3, take),
      one(2, publish),
      one(3, mark),
      one(1, renew),
      one(2, claim.map((claim): Step => ({ _tag: "Refuse", claim }))),
      one(2, fc.tuple(claim, fc.boolean()).map(([claim, later]): Step => ({ _tag: "Release", claim, later }))),
      one(1, claim.map((claim): Step => ({ _tag: "Crash", claim }))),
      one(4, fc.oneof(claim, fc.constant("all" as const)).map((claim): Step => ({ _tag: "Expire", claim }))),
      one(2, fc.constant<Step>({ _tag: "FlushRedis" })),
      one(2, fc.integer({ min: 1, max: 3 }).map((by): Step => ({ _tag: "SetBack", by }))),
      one(3, rivals)
    ),
    { minLength: 4, maxLength: 9, size: "max" }
  )
).map(([life, more]) => [...life, ...more.flat()])
