/**
 * The contract of payments and their outbox, in memory: what each operation may answer and what it leaves behind.
 *
 * Pure, and without any knowledge of how it is done. Where the contract leaves a choice (which of two rivals gets
 * the order) the model follows the choice that was made, and refuses what is none.
 */

export type Status = "CREATED" | "COMPLETED" | "FAILED"
export type Outcome = "COMPLETED" | "FAILED"

export interface Payment {
  readonly status: Status
  readonly key: string
}

/** An event of the outbox. One order has one of each status at the most: `<order>/<says>` names it. */
export interface Event {
  readonly name: string
  readonly order: number
  readonly says: Status
  readonly state: "WAIT" | "DONE" | "DEAD"
  readonly attempts: number
  /** Who holds the lease, by its token; also when the lease has run out and nobody has taken it over. */
  readonly holder: string | null
  /** No lease that is alive, and no pause, keeps it. */
  readonly due: boolean
}

/** A record of the topic. */
export interface Sent {
  readonly event: string
  readonly body: string
}

export interface State {
  readonly payments: ReadonlyMap<number, Payment>
  readonly events: ReadonlyMap<string, Event>
  readonly topic: ReadonlyArray<Sent>
  /** The token of a relay beside those who write: it gets their events as they are written. */
  readonly relay: string | null
}

export const empty: State = { payments: new Map(), events: new Map(), topic: [], relay: null }

export interface Reservation {
  readonly order: number
  readonly key: string
}
export type Decision = "Created" | "Repeated" | "OrderTaken" | "KeyTaken"
export type SettleAnswer = "OK" | "NOT_FOUND" | "ALREADY_COMPLETED" | "ALREADY_FAILED"

/** An operation, and what it answered. */
export type Done =
  | {
    readonly _tag: "Reserve"
    readonly batch: ReadonlyArray<Reservation>
    /** One for each; undefined where they are not told. */
    readonly decisions?: ReadonlyArray<Decision>
    /** How many of each; undefined where it is not told, as by a consumer that crashed. */
    readonly counted?: Readonly<Record<Decision, number>>
  }
  | { readonly _tag: "Settle"; readonly order: number; readonly outcome: Outcome; readonly answer: SettleAnswer }
  | {
    readonly _tag: "Claim"
    readonly token: string
    readonly limit: number
    readonly taken: ReadonlyArray<string>
    /** The events that were there, oldest first; undefined where another claim ran beside it and took some. */
    readonly inOrder: ReadonlyArray<string> | undefined
  }
  | {
    readonly _tag: "Renew" | "Mark" | "Release"
    readonly token: string
    readonly events: ReadonlyArray<string>
    /** How many of the events it changed; undefined where the operation does not say. */
    readonly changed: number | undefined
    /** Of Release: whether they are to wait. */
    readonly later?: boolean
  }
  | { readonly _tag: "Refuse"; readonly token: string; readonly event: string; readonly answer: string | undefined }
  | { readonly _tag: "Expire"; readonly events: ReadonlyArray<string> }
  | { readonly _tag: "Publish"; readonly sent: ReadonlyArray<Sent> }
  | { readonly _tag: "Relay"; readonly token: string | null }
  | { readonly _tag: "Receive"; readonly token: string; readonly taken: ReadonlyArray<string> }

/** What happened is against the contract. */
export class Violation extends Error {}
const must = (holds: boolean, promise: string): void => {
  if (!holds) throw new Violation(promise)
}

export const maxAttempts = 2

const name = (order: number, says: Status) => `${order}/${says}`
const change = (state: State, names: Iterable<string>, with_: (event: Event) => Event): State => {
  const events = new Map(state.events)
  for (const one of names) events.set(one, with_(events.get(one)!))
  return { ...state, events }
}
const appended = (state: State, order: number, says: Status): ReadonlyMap<string, Event> => {
  const first = says === "CREATED" || state.events.get(name(order, "CREATED"))!.state === "DONE"
  const holder = first ? state.relay : null
  return new Map(state.events).set(name(order, says), {
    name: name(order, says),
    order,
    says,
    state: "WAIT",
    attempts: 0,
    holder,
    due: holder === null
  })
}

/** Whether an event waits its turn and nothing is before it in its order. */
const claimable = (state: State, event: Event): boolean =>
  event.state === "WAIT" && event.due &&
  (event.says === "CREATED" || state.events.get(name(event.order, "CREATED"))!.state === "DONE")

/** Of the events, those that a worker with this token may still change. */
const held = (state: State, token: string, events: ReadonlyArray<string>) =>
  events.filter((one) => state.events.get(one)!.state === "WAIT" && state.events.get(one)!.holder === token)

const ownerOf = (payments: State["payments"], key: string) =>
  [...payments].find(([, payment]) => payment.key === key)?.[0]

const reserve = (
  state: State,
  { batch, counted, decisions }: Extract<Done, { readonly _tag: "Reserve" }>,
  final: State["payments"]
): State => {
  let next = state
  const may: Record<Decision, number> = { Created: 0, Repeated: 0, OrderTaken: 0, KeyTaken: 0 }
  batch.forEach(({ key, order }, i) => {
    const made = decisions === undefined
      ? !next.payments.has(order) && final.get(order)?.key === key
      : decisions[i] === "Created"
    if (!made) return
    must(!next.payments.has(order), `P2: order ${order} got a second payment`)
    must(ownerOf(next.payments, key) === undefined, `P2: key ${key} got a second payment`)
    next = {
      ...next,
      payments: new Map(next.payments).set(order, { status: "CREATED", key }),
      events: appended(next, order, "CREATED")
    }
  })
  // what was not created has something in its way, and is told what; of two things either may be said
  batch.forEach(({ key, order }, i) => {
    const by = ownerOf(final, key)
    const allowed: ReadonlyArray<Decision> = [
      ...final.get(order)?.key === key ? ["Created", "Repeated"] as const : [],
      ...by !== undefined && by !== order ? ["KeyTaken"] as const : [],
      ...final.has(order) && final.get(order)!.key !== key ? ["OrderTaken"] as const : []
    ]
    allowed.forEach((one) => may[one]++)
    must(allowed.length > 0, `P1: nothing came of the record of order ${order}, key ${key}`)
    if (decisions !== undefined) {
      must(allowed.includes(decisions[i]!), `order ${order}, key ${key}: it is not ${decisions[i]}`)
    }
  })
  if (counted !== undefined) {
    const created = next.payments.size - state.payments.size
    const all = Object.values(counted).reduce((sum, n) => sum + n, 0)
    must(counted.Created === created, `${counted.Created} were counted as created, not ${created}`)
    must(counted.Repeated === may.Repeated - created, `${counted.Repeated} were counted as repeated`)
    must(counted.OrderTaken <= may.OrderTaken, `${counted.OrderTaken} were counted as order taken`)
    must(counted.KeyTaken <= may.KeyTaken, `${counted.KeyTaken} were counted as key taken`)
    must(all === batch.length, `${all} records were counted, of ${batch.length}`)
  }
  return next
}

const settle = (
  state: State,
  { answer, order, outcome }: Extract<Done, { readonly _tag: "Settle" }>
): State => {
  const payment = state.payments.get(order)
  const expected = payment === undefined
    ? "NOT_FOUND"
    : payment.status === "CREATED" || payment.status === outcome
    ? "OK"
    : `ALREADY_${payment.status}`
  must(answer === expected, `${outcome} of order ${order} answered ${answer}, not ${expected}`)
  return payment?.status !== "CREATED" ? state : {
    ...state,
    payments: new Map(state.payments).set(order, { ...payment, status: outcome }),
    events: appended(state, order, outcome)
  }
}

const claim = (
  state: State,
  { inOrder, limit, taken, token }: Extract<Done, { readonly _tag: "Claim" }>
): State => {
  for (const one of taken) {
    must(state.events.get(one) !== undefined, `${one} was claimed, and there is none`)
    must(state.events.get(one)!.state === "WAIT", `${one} was claimed when it was ${state.events.get(one)!.state}`)
    must(state.events.get(one)!.due, `P6: ${one} was claimed while a lease or a pause kept it`)
    must(claimable(state, state.events.get(one)!), `P4: ${one} was claimed before what comes first was DONE`)
  }
  must(new Set(taken).size === taken.length && taken.length <= limit, "a claim over its limit")
  if (inOrder !== undefined) {
    const due = inOrder.filter((one) => claimable(state, state.events.get(one)!)).slice(0, limit)
    must(taken.join() === due.join(), `the claim took [${taken}], and due were [${due}]`)
  }
  return change(state, taken, (event) => ({ ...event, holder: token, due: false }))
}

/** P4 and P5, on what a reader of the topic sees. */
const publish = (state: State, { sent }: Extract<Done, { readonly _tag: "Publish" }>): State => {
  const topic = [...state.topic]
  for (const record of sent) {
    const { order, says } = state.events.get(record.event)!
    const before = topic.filter(({ event }) => event.startsWith(`${order}/`))
    const first = before.find(({ event }) => event === record.event)
    must(first === undefined || first.body === record.body, `P5: ${record.event} was sent again as another`)
    if (says === "CREATED") must(before.every(({ event }) => event === record.event), `P4: ${record.event} came late`)
    else must(before.some(({ event }) => event === name(order, "CREATED")), `P4: ${record.event} came first`)
    topic.push(record)
  }
  return { ...state, topic }
}

/** The state after an operation; throws a `Violation`. `final` is what payments there are at the end of the step. */
export const apply = (state: State, done: Done, final: State["payments"]): State => {
  switch (done._tag) {
    case "Reserve":
      return reserve(state, done, final)
    case "Settle":
      return settle(state, done)
    case "Claim":
      return claim(state, done)
    case "Publish":
      return publish(state, done)
    case "Relay":
      return { ...state, relay: done.token }
    case "Receive": {
      must(new Set(done.taken).size === done.taken.length, "an event was handed over twice")
      must(
        new Set(done.taken.map((one) => state.events.get(one)!.order)).size === done.taken.length,
        "P4: two events of an order were handed over"
      )
      return state
    }
    case "Expire":
      return change(state, done.events, (event) => ({ ...event, due: true }))
    case "Refuse": {
      const mine = held(state, done.token, [done.event])
      const dead = mine.length > 0 && state.events.get(done.event)!.attempts + 1 >= maxAttempts
      const expected = mine.length === 0 ? undefined : dead ? "DEAD" : "WAIT"
      must(done.answer === expected, `P6: a refusal answered ${done.answer}, not ${expected}`)
      return change(state, mine, (event) => ({
        ...event,
        state: dead ? "DEAD" : "WAIT",
        attempts: event.attempts + 1,
        holder: null,
        due: false
      }))
    }
    default: {
      const mine = held(state, done.token, done.events)
      must(
        done.changed === undefined || done.changed === mine.length,
        `P6: ${done._tag} changed ${done.changed} events, and ${mine.length} were the worker's`
      )
      const heldAll = mine.length === done.events.length
      must(
        done._tag !== "Renew" || heldAll === (done.changed !== undefined),
        "P6: a renewal that says it is not what it is"
      )
      return change(state, mine, (event) =>
        done._tag === "Renew"
          ? { ...event, due: false }
          : done._tag === "Mark"
          ? { ...event, state: "DONE", holder: null, due: true }
          : { ...event, holder: null, due: done.later !== true })
    }
  }
}

/** Each order of a few things. */
const orders = <A>(things: ReadonlyArray<A>): ReadonlyArray<ReadonlyArray<A>> =>
  things.length < 2 ?
    [things] :
    things.flatMap((first, i) => orders(things.filter((_, at) => at !== i)).map((rest) => [first, ...rest]))

const show = (state: Pick<State, "payments" | "events">) =>
  [
    ...[...state.payments].map(([order, { key, status }]) => `${order}=${status} by ${key}`),
    ...[...state.events.values()].map(({ attempts, due, holder, name, state }) =>
      `${name} ${state} ${attempts} ${holder} ${state === "WAIT" ? due : ""}`
    )
  ].sort()

/** The first difference of two states, in words. */
const difference = (expected: Pick<State, "payments" | "events">, found: Pick<State, "payments" | "events">) => {
  const [one, other] = [show(expected), show(found)]
  const missing = one.find((line) => !other.includes(line))
  const odd = other.find((line) => !one.includes(line))
  return missing === undefined && odd === undefined ? undefined : `expected ${missing}, found ${odd}`
}

/**
 * What became of operations that ran at the same time: as if one after the other, in any order. Answers the state
 * that this leaves; throws a `Violation` when no order explains what was answered and what was found.
 */
export const explain = (
  state: State,
  done: ReadonlyArray<Done>,
  found: Pick<State, "payments" | "events">
): State => {
  const why: Array<string> = []
  for (const order of orders(done)) {
    try {
      const next = order.reduce((state, one) => apply(state, one, found.payments), state)
      const different = difference(next, found)
      if (different === undefined) return next
      why.push(different)
    } catch (error) {
      if (!(error instanceof Violation)) throw error
      why.push(error.message)
    }
  }
  throw new Violation([...new Set(why)].join(" | "))
}
