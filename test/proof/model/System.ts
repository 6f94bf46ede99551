import { SqlClient } from "@effect/sql"
import { Cause, Effect, Exit, Metric, Option } from "effect"
import type { Redis as RedisClient } from "ioredis"
import { randomUUID } from "node:crypto"
import { OrderId } from "../../../src/domain/Payment.js"
import { Drill } from "../../../src/drills/CrashPoint.js"
import type { Dedupe } from "../../../src/inventory/Dedupe.js"
import * as Intake from "../../../src/inventory/Intake.js"
import { Outbox } from "../../../src/outbox/Outbox.js"
import type { Claim, OutboxEvent } from "../../../src/outbox/OutboxEvent.js"
import { OutboxWake } from "../../../src/outbox/OutboxWake.js"
import { Payments } from "../../../src/payments/Payments.js"
import type { Decision, Done, Event, Outcome, Payment, SettleAnswer, State, Status } from "./Model.js"
import { empty, explain, Violation } from "./Model.js"
import type { Crash, Fate, Pair, Single, Step } from "./Steps.js"
import { things } from "./Steps.js"

/** A claim in the hands of a worker. */
interface InHand extends Claim {
  /** As the worker's own clock has it: false from when the lease ran out, until it is renewed. */
  mayStart: boolean
  /** What became of the events; undefined before they were published. */
  fates: ReadonlyArray<readonly [OutboxEvent, Fate]> | undefined
}

interface Found extends Pick<State, "payments" | "events"> {
  /** Names of the events, oldest first. */
  readonly inOrder: ReadonlyArray<string>
}

interface Row {
  readonly payments: ReadonlyArray<{ readonly order: string; readonly status: Status; readonly key: string }>
  readonly events: ReadonlyArray<
    Pick<Event, "state" | "attempts" | "holder" | "due"> & {
      readonly id: string
      readonly order: string
      readonly payload: string
      readonly topic: string
    }
  >
}

const broken = (promise: string): never => {
  throw new Violation(promise)
}
const counter = Metric.counter("payments_inventory_records_total", {
  description: "Inventory records by outcome",
  incremental: true
})
const outcomes: ReadonlyArray<readonly [Decision, string]> = [
  ["Created", "created"],
  ["Repeated", "repeated"],
  ["OrderTaken", "order_taken"],
  ["KeyTaken", "key_taken"]
]
const counts = Effect.forEach(
  outcomes,
  ([decision, outcome]) =>
    Effect.map(Metric.value(Metric.tagged(counter, "outcome", outcome)), ({ count }) => [decision, count] as const)
)

/** What a sequence needs of its surroundings. */
export type Needs = SqlClient.SqlClient | Payments | Outbox | OutboxWake | Dedupe

/** What payments and events show of a step that does not touch them. */
const unchanged: Done = { _tag: "Expire", events: [] }

let sequences = 0n

/**
 * The real services over an empty outbox, and the model beside them. Each step is done on the services, and what they
 * answered and left in the database must be what the model allows.
 */
export const make = Effect.fnUntraced(function*(redis: RedisClient) {
  const sql = yield* SqlClient.SqlClient
  const payments = yield* Payments
  const outbox = yield* Outbox
  const { dispatch } = yield* OutboxWake
  dispatch.close()
  const take = yield* Intake.make
  // TRUNCATE would take ten times as long
  yield* sql`WITH gone AS (DELETE FROM event) DELETE FROM payment`

  // no other sequence has these
  const first = 9007199254740993n + sequences++ * 10n
  const keys: ReadonlyArray<string> = Array.from({ length: things }, () => randomUUID())
  const orderId = (order: number) => OrderId.make(first + BigInt(order))
  const orderOf = (id: string) => Number(BigInt(id) - first)
  const keyName = (key: string) => `k${keys.indexOf(key)}`

  let state: State = empty
  let found: Found = { payments: new Map(), events: new Map(), inOrder: [] }
  const claims: Array<InHand> = []
  const taken: Array<ReadonlyArray<Pair>> = []
  const bodies = new Map<string, string>()
  const idOf = new Map<string, string>()

  const nameOf = ({ id }: OutboxEvent) => [...idOf].find(([, other]) => other === id)?.[0] ?? `unknown ${id}`
  /** The newest claim is 0. */
  const claimOf = (n: number): InHand | undefined => claims[claims.length - 1 - n % Math.max(1, claims.length)]

  const look = Effect.gen(function*() {
    const [row] = yield* sql<Row>`
      SELECT (
        SELECT coalesce(json_agg(json_build_object(
          'order', order_id::text, 'status', status, 'key', inventory_key
        )), '[]') FROM payment
      ) AS payments, (
        SELECT coalesce(json_agg(json_build_object(
          'id', id::text, 'order', order_id::text, 'state', status, 'attempts', attempts, 'holder', lease_token,
          'due', reserved_to IS NULL OR reserved_to <= clock_timestamp(), 'payload', payload, 'topic', topic
        ) ORDER BY id), '[]') FROM event
      ) AS events
    `
    const events = new Map<string, Event>()
    for (const { attempts, due, holder, id, order, payload, state, topic } of row!.events) {
      const [, idempotentKey, says] =
        /^\{"idempotent_key":"([0-9a-f-]{36})","order_id":\d+,"status":"([A-Z]+)"\}$/.exec(payload) ?? []
      const name = `${orderOf(order)}/${says}`
      if (!payload.includes(`"order_id":${order},`) || topic !== "payment") broken("the body of an event")
      if (events.has(name)) broken(`P2: ${name} is there twice`)
      const before = bodies.get(id)
      if (before === undefined ? [...bodies.values()].some((_) => _.includes(idempotentKey!)) : before !== payload) {
        broken(`P5: ${name} has another body than before, or the key of another`)
      }
      bodies.set(id, payload)
      idOf.set(name, id)
      events.set(name, { name, order: orderOf(order), says: says as Status, state, attempts, holder, due })
    }
    const known = yield* Effect.promise(() => redis.mget(keys.map((key) => `payments:inventory:${key}`)))
    for (const [i, order] of known.entries()) {
      if (order !== null && !row!.payments.some((_) => _.order === order && _.key === keys[i])) {
        broken(`Redis knows of key k${i} what the database does not`)
      }
    }
    return {
      payments: new Map(
        row!.payments.map(({ key, order, status }): [number, Payment] => [
          orderOf(order),
          { status, key: keyName(key) }
        ])
      ),
      events,
      inOrder: [...events.keys()]
    } satisfies Found
  })

  const reservations = (batch: ReadonlyArray<Pair>) =>
    batch.map(([order, key]) => ({
      orderId: orderId(order),
      idempotentKey: keys[key]!,
      traceparent: Option.none<string>()
    }))
  const named = (batch: ReadonlyArray<Pair>) => batch.map(([order, key]) => ({ order, key: `k${key}` }))

  const settle = (order: number, outcome: Outcome): Effect.Effect<SettleAnswer> =>
    payments.settle(orderId(order), outcome).pipe(
      Effect.as<SettleAnswer>("OK"),
      Effect.catchTags({
        PaymentNotFound: () => Effect.succeed<SettleAnswer>("NOT_FOUND"),
        PaymentAlreadySettled: ({ status }) => Effect.succeed<SettleAnswer>(`ALREADY_${status}`)
      }),
      Effect.orDie
    )

  const records = Effect.fnUntraced(function*(batch: ReadonlyArray<Pair>, crash: Crash) {
    const before = yield* counts
    const exit = yield* take(reservations(batch)).pipe(
      Effect.provideService(Drill, { pass: (point) => point === crash ? Effect.interrupt : Effect.void }),
      Effect.exit
    )
    if (Exit.isFailure(exit) && !Exit.isInterrupted(exit)) {
      return yield* Effect.failCause(Cause.die(Cause.squash(exit.cause)))
    }
    const after = new Map(yield* counts)
    const counted = Object.fromEntries(before.map(([decision, n]) => [decision, after.get(decision)! - n]))
    return [{
      _tag: "Reserve",
      batch: named(batch),
      ...crash === "none" ? { counted: counted as Record<Decision, number> } : {}
    }] satisfies ReadonlyArray<Done>
  })

  const sentOf = (claim: InHand, fate: Fate) =>
    (claim.fates ?? []).flatMap(([event, became]) => became === fate ? [event] : [])

  const single = Effect.fnUntraced(function*(step: Single, alone: boolean): Effect.fn.Return<ReadonlyArray<Done>> {
    switch (step._tag) {
      case "Reserve": {
        const decisions = yield* Effect.orDie(payments.reserve(reservations(step.batch)))
        return [{ _tag: "Reserve", batch: named(step.batch), decisions: decisions.map((_) => _._tag) }]
      }
      case "Settle":
        return [{ ...step, answer: yield* settle(step.order, step.outcome) }]
      case "Claim": {
        const claim = yield* Effect.orDie(outbox.claim(step.limit))
        claims.push({ ...claim, mayStart: true, fates: undefined })
        // the names are known when the database was looked at
        return [{
          _tag: "Claim",
          token: claim.token,
          limit: step.limit,
          get taken() {
            return claim.events.map(nameOf)
          },
          inOrder: alone ? found.inOrder : undefined
        }]
      }
      case "Mark": {
        const claim = claimOf(step.claim)
        const events = claim === undefined ? [] : sentOf(claim, "acked")
        if (events.length === 0) return []
        const waited = yield* Effect.orDie(outbox.markDone(claim!, events))
        return [{ _tag: "Mark", token: claim!.token, events: events.map(nameOf), changed: waited.length }]
      }
      case "Renew": {
        const claim = claimOf(step.claim)
        if (claim === undefined || claim.events.length === 0) return []
        const renewed = yield* Effect.orDie(outbox.renew(claim))
        claim.mayStart = renewed
        return [{
          _tag: "Renew",
          token: claim.token,
          events: claim.events.map(nameOf),
          changed: renewed ? claim.events.length : undefined
        }]
      }
    }
  })

  const expire = Effect.fnUntraced(function*(which: number | "all") {
    const claim = which === "all" ? undefined : claimOf(which)
    if (which !== "all" && claim === undefined) return []
    const events = [...state.events.values()].filter(({ due, holder, state }) =>
      state === "WAIT" && !due && (claim === undefined || holder === claim.token)
    ).map((_) => _.name)
    yield* sql`
      UPDATE event SET reserved_to = clock_timestamp() - interval '1 second'
      WHERE id = ANY(${events.map((_) => idOf.get(_)!)}::bigint[])
    `
    // what was handed over has one token, however often some of it was taken
    for (const one of claims) if (claim === undefined || one.token === claim.token) one.mayStart = false
    return [{ _tag: "Expire", events }] satisfies ReadonlyArray<Done>
  })

  const act = Effect.fnUntraced(function*(step: Step): Effect.fn.Return<ReadonlyArray<Done>> {
    const claim = "claim" in step && step.claim !== "all" ? claimOf(step.claim) : undefined
    switch (step._tag) {
      case "Race":
        return (yield* Effect.forEach(step.steps, (one) => single(one, false), { concurrency: "unbounded" })).flat()
      case "Records":
        taken.push(step.batch)
        return yield* records(step.batch, step.crash)
      case "Replay":
        return taken.length === 0 ? [] : yield* records(taken[step.of % taken.length]!, "none")
      case "FlushRedis":
        yield* Effect.promise(() => redis.flushdb())
        return [unchanged]
      case "SetBack":
        yield* Effect.orDie(sql`
          SELECT setval('payment_id_seq', (SELECT greatest(1, min(id) - ${step.by}) FROM payment), false),
                 setval('event_id_seq', (SELECT greatest(1, min(id) - ${step.by}) FROM event), false)
        `)
        return [unchanged]
      case "Publish": {
        // as the worker's clock says right before the bytes leave; and nothing of a claim is sent twice
        if (claim === undefined || claim.fates !== undefined || !claim.mayStart) return []
        claim.fates = claim.events.map((event, i) => [event, step.fates[i % step.fates.length]!])
        const sent = claim.fates.flatMap(([event, fate]) =>
          fate === "acked" || fate === "unanswered" ? [{ event: nameOf(event), body: event.payload }] : []
        )
        return [{ _tag: "Publish", sent }]
      }
      case "Refuse": {
        const [event] = claim === undefined ? [] : sentOf(claim, "refused")
        if (event === undefined) return []
        const answer = yield* Effect.orDie(outbox.refuse(claim!, event, "MESSAGE_TOO_LARGE"))
        // the pause is real time; no step waits for it
        if (answer === "WAIT") {
          yield* Effect.orDie(
            sql`UPDATE event SET reserved_to = reserved_to + interval '1 hour' WHERE id = ${event.id}`
          )
        }
        return [{ _tag: "Refuse", token: claim!.token, event: nameOf(event), answer }]
      }
      case "Release": {
        const events = claim === undefined ? [] : sentOf(claim, "unsent")
        if (events.length === 0) return []
        yield* Effect.orDie(outbox.release(claim!, events, step.later ? "1 hour" : 0))
        return [{
          _tag: "Release",
          token: claim!.token,
          events: events.map(nameOf),
          changed: undefined,
          later: step.later
        }]
      }
      case "Relay": {
        const handed = dispatch.close()
        if (step.does === "comes") {
          dispatch.open(1_000)
          return [{ _tag: "Relay", token: dispatch.lease()!.token }]
        }
        if (step.does === "dies" || handed === undefined) return [{ _tag: "Relay", token: null }]
        yield* Effect.orDie(outbox.release(handed, handed.events, 0))
        const events = handed.events.map(nameOf)
        return [
          { _tag: "Relay", token: null },
          { _tag: "Release", token: handed.token, events, changed: undefined, later: false }
        ]
      }
      case "Receive": {
        const handed = dispatch.take(step.limit)
        if (handed === undefined) return []
        const names = handed.events.map(nameOf)
        // as its own clock says, which began before the database's
        const alive = names.every((one) => {
          const { due, holder } = state.events.get(one)!
          return !due && holder === handed.token
        })
        claims.push({ token: handed.token, events: handed.events, mayStart: alive, fates: undefined })
        return [{ _tag: "Receive", token: handed.token, taken: names }]
      }
      case "Crash":
        if (claim === undefined) return []
        claims.splice(claims.indexOf(claim), 1)
        return [unchanged]
      case "Expire":
        return yield* Effect.orDie(expire(step.claim))
      default:
        return yield* single(step, true)
    }
  })

  /** Does a step, and holds it to the model. Dies with the `Violation`. Answers whether there was anything to do. */
  const run = Effect.fnUntraced(function*(step: Step) {
    const done = yield* act(step)
    // there was nothing to do it with
    if (done.length === 0) return false
    found = yield* Effect.orDie(look)
    state = explain(state, done, found)
    return true
  })

  return { run, state: () => state } as const
})
