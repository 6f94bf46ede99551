import { complete, mayRelease, play, protocol, start } from "./Protocol.js"

/** What the real relay can be told to do: one call each. */
export type Call =
  /** Takes a fresh token. The lease of the owner, if there is one, has to be made to run out before. */
  | "acquire"
  /** A new producer for the shard, and its first `transaction()`. */
  | "fence"
  /** Reads the committed number, then runs the reconciling statement. */
  | "reconcile"
  | "claim"
  /** Sends the events of the batch in hand, and its number by `sendOffsets`, in a new transaction. */
  | "send"
  | "commit"
  /** As `commit`, but the relay is told of a time-out: it takes place all the same. */
  | "loseCommitAnswer"
  | "mark"
  /** Gives the shard back in order; only before a claim. */
  | "release"
  /** The process dies: of all its shards it knows nothing any more. */
  | "crash"

export interface ScheduleStep {
  readonly relay: number
  /** Of no meaning for a crash. */
  readonly shard: number
  readonly call: Call
  /**
   * What must come of it. `refused`: the database says that the token is not the owner's, or the broker that the producer is
   * fenced; the relay then has nothing and next acquires. For a claim also which events it gets, by their place in `orders`.
   */
  readonly outcome: "done" | "refused"
  readonly claims?: ReadonlyArray<number>
}

export interface Schedule {
  readonly seed: number
  readonly relays: number
  readonly batchSize: number
  /** By shard: the order of each event, in the order in which they are to be written. Orders differ between shards. */
  readonly orders: ReadonlyArray<ReadonlyArray<number>>
  /** From the first step on; the last ones let one relay deliver all that is left. */
  readonly steps: ReadonlyArray<ScheduleStep>
  /** By shard: what a `read_committed` reader must have seen when it is over: exactly this, in this order within an order. */
  readonly topic: ReadonlyArray<ReadonlyArray<number>>
}

/** Numbers below `below`, always the same for a seed (mulberry32). */
export const numbers = (seed: number) => {
  let state = seed >>> 0
  return (below: number): number => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return Math.floor(((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296 * below)
  }
}

/**
 * At random: now this relay, now that one does a few steps for a shard, with crashes, lost answers and shards given back in
 * between. At the end one relay delivers all that is left.
 */
export const schedule = (seed: number, { turns = 18, relays = 2, shards = 2 } = {}): Schedule => {
  const random = numbers(seed)
  const batchSize = 1 + random(3)
  // an order has two events at the most
  const orders = Array.from(
    { length: shards },
    (_, shard) =>
      Array.from({ length: 2 + random(3) }, () => 10 * (shard + 1) + random(3)).filter((order, event, all) =>
        all.slice(0, event).filter((_) => _ === order).length < 2
      )
  )
  const states = orders.map((events) => start(events, relays, batchSize))
  const steps: Array<ScheduleStep> = []

  const act = (relay: number, shard: number) => protocol.program[states[shard]!.relays[relay]!.next]!

  const take = (relay: number, shard: number, call: Call) => {
    const state = states[shard]!
    const second = state.relays[relay]!.hand.events.length > 0
    const ask = (is: "answered" | "answer lost" | "release") => play(protocol, state, { is, relay })
    let outcome: "refused" | undefined
    if (call === "crash") {
      for (const each of states) play(protocol, each, { is: "crash", relay })
    } else if (call === "release") {
      ask("release")
    } else {
      if (call === "reconcile" || call === "send") outcome = ask("answered")
      outcome ??= ask(call === "loseCommitAnswer" ? "answer lost" : "answered")
    }
    steps.push({
      relay,
      shard,
      call,
      outcome: outcome ?? "done",
      ...(call === "claim" && outcome === undefined
        ? { claims: state.relays[relay]![second ? "ahead" : "hand"].events }
        : {})
    })
  }

  const proceed = (relay: number, shard: number) => {
    const next = act(relay, shard)
    take(relay, shard, next === "read" ? "reconcile" : next === "sendOffsets" ? "send" : next)
  }

  for (let turn = 0; turn < turns; turn++) {
    const relay = random(relays)
    const shard = random(shards)
    for (let count = 1 + random(5); count > 0; count--) {
      const chance = random(24)
      if (chance === 0) take(relay, shard, "crash")
      else if (chance < 3 && mayRelease(protocol, states[shard]!.relays[relay]!)) take(relay, shard, "release")
      else if (chance < 9 && act(relay, shard) === "commit") take(relay, shard, "loseCommitAnswer")
      else if (chance < 12) break
      else proceed(relay, shard)
    }
  }
  const last = random(relays)
  states.forEach((state, shard) => {
    while (!complete(state)) proceed(last, shard)
  })
  return { seed, relays, batchSize, orders, steps, topic: states.map((_) => _.topic) }
}

/** The same schedules for everyone who asks. */
export const schedules = (count: number, seed = 1): ReadonlyArray<Schedule> =>
  Array.from({ length: count }, (_, place) => schedule(seed + place))
