/**
 * Exactly-once delivery, as a pure state machine: one shard, with its rows, its place at the broker, and what each relay
 * believes about it. Read `serve` for what the database and the broker do, `heard` and `failed` for what a relay does.
 *
 * A step is one request with its fate, so that anything may happen between two requests: a relay that stands still is
 * one that takes no steps, and a lease that runs out is one that another relay acquires. Nothing here knows a clock.
 */

/**
 * What a relay does for a shard, in this order; then again from `send` on, or from the first claim when it has no batch in
 * hand. The second claim is of the batch after that.
 */
export const program = [
  "acquire",
  "fence",
  "read",
  "reconcile",
  "claim",
  "send",
  "sendOffsets",
  "claim",
  "commit",
  "mark"
] as const
export type Act = (typeof program)[number]

/** The protocol, and the ways to break it. */
export interface Rules {
  readonly program: ReadonlyArray<Act>
  /** Where a relay goes on when a request failed or had no answer. `acquire`: it forgets all and takes a fresh token. */
  readonly afterError:
    | "acquire"
    | "fence"
    | "fence, then send the same again"
    | "fence, then send the next"
    | "claim again"
  /** The statements that only the owner's token may run. */
  readonly guarded: ReadonlyArray<Act>
  /** Whose transactional id a producer has: producers of one id fence each other. */
  readonly transactionalId: "shard" | "process"
  /** Which batch is marked: the last one, which is committed, or the one in hand. */
  readonly marks: "last" | "hand"
  /** What a mark asks of its events, beside their ids and that they wait. */
  readonly markNames: "the number" | "nothing"
  /** Who may put new shards in the place of the old ones: `whoever` also one who has neither fenced nor reconciled. */
  readonly changes: "who has it at rest" | "whoever has the token" | "whoever was at rest"
}

export const protocol: Rules = {
  program,
  afterError: "acquire",
  guarded: ["reconcile", "claim"],
  transactionalId: "shard",
  marks: "last",
  markNames: "the number",
  changes: "who has it at rest"
}

/** What a relay knows of the shard: lost when it crashes. `next` is its place in the program. */
export interface Relay {
  readonly next: number
  readonly token: number
  /** The transactional id of the shard that it took. */
  readonly name: number
  readonly epoch: number
  /** The number that it read at the broker. */
  readonly committed: number
  /** The batch in hand: it is not committed. */
  readonly hand: Batch
  /** The batch after that. */
  readonly ahead: Batch
  /** The batch before that: it is committed, and not marked. */
  readonly last: Batch
}

export interface Batch {
  readonly number: number
  readonly events: ReadonlyArray<number>
}

/** A request on its way: all that it carries is what its sender knew. */
export interface Request {
  readonly act: Act | "release" | "change"
  readonly from: number
  readonly knew: Relay
}

export interface Shard {
  /** The order of each event, in the order in which the events were written. */
  readonly orders: ReadonlyArray<number>
  readonly batchSize: number
  readonly relays: Array<Relay>
  /** Requests that their senders gave up, and that may still arrive. */
  wire: ReadonlyArray<Request>
  /** The database. 0: no owner, no batch. */
  owner: number
  lastToken: number
  lastBatch: number
  readonly done: Array<boolean>
  readonly batch: Array<number>
  /** The shard's transactional id: another one after each change of the number of shards, of which so many are left. */
  name: number
  changes: number
  /** The broker: for each transactional id the epoch and the open transaction; then what a read_committed reader sees. */
  readonly producers: Array<Producer>
  committed: number
  topic: ReadonlyArray<number>
}

export interface Producer {
  readonly epoch: number
  readonly open: { readonly events: ReadonlyArray<number>; readonly number: number } | undefined
}

/**
 * What becomes of a request: it is answered; it takes place and the answer is lost; it never arrives; or its sender gives
 * it up and it arrives at any time later, or never.
 */
export type Fate = "answered" | "answer lost" | "request lost" | "late"

export type Step =
  | { readonly is: Fate; readonly relay: number }
  /** In order: gives the shard away. Only with nothing in hand. */
  | { readonly is: "release" | "crash"; readonly relay: number }
  /** Other shards take the place of all that there are: of what becomes of this one's orders, each by itself is the same. */
  | { readonly is: "change"; readonly relay: number }
  | { readonly is: "arrives"; readonly place: number }
  /** The broker aborts a transaction that took too long. */
  | { readonly is: "times out"; readonly producer: number }

export const nothing: Batch = { number: 0, events: [] }

export const idle: Relay = {
  next: 0,
  token: 0,
  name: 0,
  epoch: 0,
  committed: 0,
  hand: nothing,
  ahead: nothing,
  last: nothing
}

export const start = (orders: ReadonlyArray<number>, relays: number, batchSize = 1, changes = 0): Shard => ({
  orders,
  batchSize,
  relays: Array.from({ length: relays }, () => idle),
  wire: [],
  owner: 0,
  lastToken: 0,
  lastBatch: 0,
  done: orders.map(() => false),
  batch: orders.map(() => 0),
  name: 0,
  changes,
  producers: Array.from({ length: Math.max(relays, changes + 1) }, () => ({ epoch: 0, open: undefined })),
  committed: 0,
  topic: []
})

/** The oldest events that wait, have no batch, and whose order has none before them that is not DONE. */
const due = (shard: Shard) =>
  shard.orders.flatMap((order, id) =>
    !shard.done[id] && shard.batch[id] === 0 &&
      !shard.orders.some((other, earlier) => earlier < id && other === order && !shard.done[earlier]) ?
      [id] :
      []
  ).slice(0, shard.batchSize)

export const producerOf = (rules: Rules, relay: number, { name }: Relay) =>
  rules.transactionalId === "shard" ? name : relay

/** The database and the broker: carries out a request. Answers what its sender learns from it, or that it was refused. */
const serve = (rules: Rules, shard: Shard, { act, from, knew }: Request): Partial<Relay> | "refused" => {
  if (rules.guarded.includes(act as Act) && shard.owner !== knew.token) return "refused"
  const id = producerOf(rules, from, knew)
  const producer = shard.producers[id]!
  const fenced = producer.epoch !== knew.epoch
  switch (act) {
    case "acquire": // always granted: the lease may have run out
      shard.owner = ++shard.lastToken
      return { token: shard.owner, name: shard.name }
    case "change": // the new number begins where the old ones ended
      if (rules.changes !== "whoever was at rest" && shard.owner !== knew.token || shard.changes === 0) return "refused"
      shard.owner = 0
      shard.name++
      shard.changes--
      shard.committed = shard.lastBatch
      return {}
    case "release":
      if (shard.owner === knew.token) shard.owner = 0
      return {}
    case "fence": // aborts what an older epoch left open
      shard.producers[id] = { epoch: producer.epoch + 1, open: undefined }
      return { epoch: producer.epoch + 1 }
    case "read":
      return { committed: shard.committed }
    case "reconcile":
      shard.batch.forEach((number, event) => {
        if (number === 0 || shard.done[event]) return
        if (number <= knew.committed) shard.done[event] = true
        else shard.batch[event] = 0
      })
      return { committed: 0 }
    case "claim": {
      const events = due(shard)
      const number = ++shard.lastBatch
      for (const event of events) shard.batch[event] = number
      const batch = events.length === 0 ? nothing : { number, events }
      return knew.hand.events.length === 0 ? { hand: batch } : { ahead: batch }
    }
    case "send":
      if (fenced) return "refused"
      shard.producers[id] = { epoch: producer.epoch, open: { number: 0, ...producer.open, events: knew.hand.events } }
      return {}
    case "sendOffsets":
      if (fenced) return "refused"
      shard.producers[id] = { epoch: producer.epoch, open: { events: [], ...producer.open, number: knew.hand.number } }
      return {}
    case "commit":
      if (fenced || producer.open === undefined) return "refused"
      shard.topic = [...shard.topic, ...producer.open.events]
      shard.committed = producer.open.number
      shard.producers[id] = { epoch: producer.epoch, open: undefined }
      return { last: knew.hand, hand: knew.ahead, ahead: nothing }
    case "mark": {
      const { events, number } = knew[rules.marks]
      for (const event of events) {
        if (rules.markNames === "nothing" || shard.batch[event] === number) shard.done[event] = true
      }
      return { last: nothing }
    }
  }
}

/** A relay after an answer. */
const heard = (rules: Rules, relay: Relay, answer: Partial<Relay>): Relay => {
  const me = { ...relay, ...answer }
  const place = (act: Act) => rules.program.indexOf(act)
  const inHand = me.hand.events.length > 0
  // only a relay that does not forget all after an error has something in hand here
  if (rules.program[me.next] === "fence" && inHand && me.next < place("claim")) return { ...me, next: place("send") }
  const then = (at: number) => at + 1 < rules.program.length ? at + 1 : place("send")
  const first = then(me.next)
  const next = rules.program[first] === "mark" && me[rules.marks].events.length === 0 ? then(first) : first
  const act = rules.program[next]!
  if (inHand || next <= place("claim") || act === "claim" || act === "mark") return { ...me, next }
  return { ...me, next: place(me.last.events.length > 0 ? "mark" : "claim") }
}

/** A relay after an error, or after no answer. */
const failed = (rules: Rules, me: Relay): Relay => {
  if (me.token === 0 || rules.afterError === "acquire") return idle
  const fence = { ...idle, token: me.token, name: me.name, next: rules.program.indexOf("fence") }
  switch (rules.afterError) {
    case "fence":
      return fence
    case "fence, then send the same again":
      return { ...fence, hand: me.hand }
    case "fence, then send the next":
      return { ...fence, hand: me.ahead }
    case "claim again":
      return rules.program[me.next] === "claim" ? me : fence
  }
}

const ask = (rules: Rules, shard: Shard, from: number): Request => ({
  act: rules.program[shard.relays[from]!.next]!,
  from,
  knew: shard.relays[from]!
})

/** Does the step, in place. Answers whether a server refused it, be it that the relay hears of that or not. */
export const play = (rules: Rules, shard: Shard, step: Step): "refused" | undefined => {
  switch (step.is) {
    case "times out": {
      const { epoch } = shard.producers[step.producer]!
      shard.producers[step.producer] = { epoch: epoch + 1, open: undefined }
      return
    }
    case "arrives": {
      const request = shard.wire[step.place]!
      shard.wire = shard.wire.filter((_, place) => place !== step.place)
      serve(rules, shard, request)
      return
    }
    case "crash":
      shard.relays[step.relay] = idle
      return
    case "release":
    case "change":
      serve(rules, shard, { act: step.is, from: step.relay, knew: shard.relays[step.relay]! })
      shard.relays[step.relay] = idle
      return
  }
  const request = ask(rules, shard, step.relay)
  const me = request.knew
  if (step.is === "late") shard.wire = [...shard.wire, request]
  const answer = step.is === "answered" || step.is === "answer lost" ? serve(rules, shard, request) : "none"
  if (step.is === "answered" && answer === "refused" && rules.guarded.includes(request.act as Act)) {
    shard.relays[step.relay] = idle // it is not the owner
  } else if (step.is === "answered" && answer !== "refused") {
    shard.relays[step.relay] = heard(rules, me, answer as Partial<Relay>)
  } else {
    shard.relays[step.relay] = failed(rules, me)
  }
  return answer === "refused" ? "refused" : undefined
}

/** The shard after the step. */
export const after = (rules: Rules, shard: Shard, step: Step): Shard => {
  const next = {
    ...shard,
    relays: [...shard.relays],
    done: [...shard.done],
    batch: [...shard.batch],
    producers: [...shard.producers]
  }
  play(rules, next, step)
  return next
}

/** Whether nothing is in its hands. */
export const mayRelease = (rules: Rules, me: Relay) =>
  rules.program[me.next] === "claim" && me.hand.events.length === 0 && me.last.events.length === 0

/** Whether it may put new shards in the place of all. */
export const mayChange = (rules: Rules, me: Relay) =>
  rules.changes === "whoever has the token" ? me.token !== 0 : mayRelease(rules, me)

/** Every step that may come next. Requests in `late` may be late, one at a time. */
export const steps = (rules: Rules, shard: Shard, late: ReadonlyArray<Act> = []): ReadonlyArray<Step> => {
  const all: Array<Step> = shard.wire.map((_, place) => ({ is: "arrives", place }))
  shard.producers.forEach(({ open }, producer) => open && all.push({ is: "times out", producer }))
  shard.relays.forEach((me, relay) => {
    all.push({ is: "answered", relay }, { is: "answer lost", relay })
    if (me.next > 0) all.push({ is: "request lost", relay }, { is: "crash", relay })
    if (shard.wire.length === 0 && late.includes(rules.program[me.next]!)) all.push({ is: "late", relay })
    if (mayRelease(rules, me)) all.push({ is: "release", relay })
    if (shard.changes > 0 && mayChange(rules, me)) all.push({ is: "change", relay })
  })
  return all
}

/** What must hold in every state: the first thing that does not. */
export const wrong = (shard: Shard): string | undefined => {
  const { done, orders, producers, topic } = shard
  for (let at = 0; at < topic.length; at++) {
    const event = topic[at]!
    if (topic.indexOf(event) < at) return `event ${event} is on the topic twice`
    for (let earlier = 0; earlier < event; earlier++) {
      if (orders[earlier] !== orders[event]) continue
      const before = topic.indexOf(earlier)
      if (before < 0 || before > at) return `event ${event} is on the topic before event ${earlier} of its order`
    }
  }
  for (let event = 0; event < done.length; event++) {
    if (done[event] && !topic.includes(event)) return `event ${event} is DONE and not on the topic`
  }
  for (const { open } of producers) {
    if (open === undefined) continue
    for (const event of open.events) if (topic.includes(event)) return `event ${event} is on the topic and sent again`
  }
  return undefined
}

/** Whether all is delivered and marked. */
export const complete = (shard: Shard): boolean => shard.done.every(Boolean) && shard.topic.length === shard.done.length

/** A step in words, as it would happen to this shard. */
const words = (rules: Rules, shard: Shard, step: Step): string => {
  const name = (relay: number) => String.fromCharCode(65 + relay)
  switch (step.is) {
    case "times out":
      return "the broker aborts the transaction"
    case "arrives":
      return `the late ${shard.wire[step.place]!.act} of ${name(shard.wire[step.place]!.from)} arrives`
    case "crash":
    case "release":
    case "change":
      return `${name(step.relay)} ${step.is}`
    default: {
      const { act } = ask(rules, shard, step.relay)
      const refused = step.is === "answered" && play(rules, structuredClone(shard), step) === "refused"
      return `${name(step.relay)} ${act}${step.is === "answered" ? refused ? " (refused)" : "" : ` (${step.is})`}`
    }
  }
}

/** Steps in words, from the first one on. */
export const story = (rules: Rules, first: Shard, steps: ReadonlyArray<Step>): string => {
  let shard = first
  return steps.map((step) => {
    const said = words(rules, shard, step)
    shard = after(rules, shard, step)
    return said
  }).join(", ")
}
