import { setImmediate } from "node:timers/promises"
import type { Act, Batch, Relay, Request, Rules, Shard, Step } from "./Protocol.js"
import { after, complete, idle, nothing, producerOf, steps, story, wrong } from "./Protocol.js"

/**
 * A state as a short text: two shards with the same text can do the same from here on, so that the states are finite
 * however often relays crash. Of a token only matters whether it is the owner's, of an epoch whether it is the newest,
 * and of batch numbers their order: the next one is above them all.
 */
export const encode = (rules: Rules, shard: Shard): string => {
  const { batch, committed, done, owner, producers, relays, topic, wire } = shard
  const requests = wire.map((request) => carried(rules, request))
  const ranks: Array<number> = new Array(shard.lastBatch + 1).fill(0)
  const use = (number: number) => ranks[number] = 1
  use(committed)
  batch.forEach(use)
  for (const { open } of producers) use(open?.number ?? 0)
  for (const me of [...relays, ...requests.map(({ knew }) => knew)]) {
    use(me.committed)
    for (const { number } of batches(me)) use(number)
  }
  let last = 0
  ranks[0] = 0
  for (let number = 1; number < ranks.length; number++) if (ranks[number] === 1) ranks[number] = ++last
  const rank = (number: number) => ranks[number]!
  const known = (me: Shard["relays"][number], relay: number) => {
    const { epoch } = producers[producerOf(rules, relay, me)]!
    return `${me.token === 0 ? "-" : me.token === owner ? "o" : "x"}${shard.name - me.name}${
      me.epoch === 0 ? "-" : me.epoch === epoch ? "n" : "x"
    }${rank(me.committed)}.${batches(me).map(({ events, number }) => `${rank(number)}.${events.join()}`).join("/")}`
  }
  return [
    owner === 0 ? "" : "o",
    shard.changes,
    rank(committed),
    topic.join(),
    ...done.map((yes, event) => yes ? "d" : rank(batch[event]!)),
    ...producers.map(({ open }) => open && `${rank(open.number)}.${open.events.join()}`),
    ...relays.map((me, relay) => `${me.next}${known(me, relay)}`),
    ...requests.map(({ act, from, knew }) => `${act}${from}${known(knew, from)}`).sort()
  ].join(" ")
}

const batches = ({ ahead, hand, last }: Relay): ReadonlyArray<Batch> => [last, hand, ahead]

/** What of a request is looked at when it arrives. */
const carried = (rules: Rules, { act, from, knew }: Request): Request => {
  const { committed, epoch, hand, name, token } = knew
  switch (act) {
    case "reconcile":
      return { act, from, knew: { ...idle, token, committed } }
    case "claim":
    case "release":
      return { act, from, knew: { ...idle, token } }
    case "mark":
      return { act, from, knew: { ...idle, [rules.marks]: knew[rules.marks] } }
    case "send":
      return { act, from, knew: { ...idle, name, epoch, hand: { ...nothing, events: hand.events } } }
    case "sendOffsets":
      return { act, from, knew: { ...idle, name, epoch, hand: { ...nothing, number: hand.number } } }
    case "commit":
      return { act, from, knew: { ...idle, name, epoch } }
    case "fence":
      return { act, from, knew: { ...idle, name } }
    default:
      return { act, from, knew: idle }
  }
}

/** All states of a shard, and where each step of them leads. */
export interface Graph {
  readonly states: number
  readonly steps: number
  readonly complete: ReadonlyArray<boolean>
  /** By state: where each relay's crash leads. */
  readonly crash: ReadonlyArray<ReadonlyArray<number>>
  /** By state: where all other steps lead. */
  readonly next: ReadonlyArray<ReadonlyArray<number>>
  /** By state: where the steps lead that are not faults. */
  readonly calm: ReadonlyArray<ReadonlyArray<number>>
}

/** The shortest way to something that must not be. */
export interface Counterexample {
  readonly wrong: string
  readonly story: string
}

/**
 * Breadth first over all interleavings. A state that is wrong ends it, and so does one from which, without one more
 * fault, the shard cannot come to have everything delivered and marked.
 */
export const explore = async (
  rules: Rules,
  first: Shard,
  late: ReadonlyArray<Act> = []
): Promise<Graph | Counterexample> => {
  const index = new Map([[encode(rules, first), 0]])
  const shards = [first]
  const from: Array<readonly [number, Step] | undefined> = [undefined]
  const crash: Array<Array<number>> = []
  const next: Array<Array<number>> = []
  const calm: Array<Array<number>> = []
  let count = 0
  const way = (state: number): Array<Step> => {
    const last = from[state]
    return last === undefined ? [] : [...way(last[0]), last[1]]
  }
  for (let state = 0; state < shards.length; state++) {
    // who runs the tests gives up a worker that answers nothing for a minute
    if (state % 2_000 === 0) await setImmediate()
    const shard = shards[state]!
    const crashes = shard.relays.map(() => state)
    const to = new Set<number>()
    const calmly = new Set<number>()
    for (const step of steps(rules, shard, late)) {
      const then = after(rules, shard, step)
      const code = encode(rules, then)
      let place = index.get(code)
      if (place === undefined) {
        place = shards.length
        index.set(code, place)
        shards.push(then)
        from.push([state, step])
        const found = wrong(then)
        if (found !== undefined) return { wrong: found, story: story(rules, first, way(place)) }
      }
      count++
      if (step.is === "crash") crashes[step.relay] = place
      else to.add(place)
      if (step.is === "answered") calmly.add(place)
    }
    crash.push(crashes)
    next.push([...to])
    calm.push([...calmly])
  }
  const finished = shards.map(complete)
  const stuck = cannotReach(calm, finished)
  if (stuck !== undefined) return { wrong: "cannot be completed any more", story: story(rules, first, way(stuck)) }
  return { states: shards.length, steps: count, complete: finished, crash, next, calm }
}

/** The first state from which none of the goals can be reached. */
const cannotReach = (edges: ReadonlyArray<ReadonlyArray<number>>, goals: ReadonlyArray<boolean>) => {
  const back: Array<Array<number>> = edges.map(() => [])
  edges.forEach((to, state) => to.forEach((place) => back[place]!.push(state)))
  const reached = [...goals]
  const todo = goals.flatMap((goal, state) => goal ? [state] : [])
  for (let state = todo.pop(); state !== undefined; state = todo.pop()) {
    for (const before of back[state]!) {
      if (!reached[before]) {
        reached[before] = true
        todo.push(before)
      }
    }
  }
  const stuck = reached.indexOf(false)
  return stuck < 0 ? undefined : stuck
}

/**
 * All states of a system of two shards, by the graphs of each: a step is a step of one of them, but a crash takes all that
 * the relay knows, of both. Answers how many there are. A state of the system is wrong when that of a shard is; and it can be
 * completed when both can, since no step of the one changes anything of the other.
 */
export const together = (one: Graph, other: Graph): number => {
  const seen = new Uint8Array(one.states * other.states)
  const todo = new Uint32Array(one.states * other.states)
  let found = 0
  const visit = (a: number, b: number) => {
    const state = a * other.states + b
    if (seen[state] === 0) {
      seen[state] = 1
      todo[found++] = state
    }
  }
  visit(0, 0)
  for (let at = 0; at < found; at++) {
    const a = Math.floor(todo[at]! / other.states)
    const b = todo[at]! % other.states
    for (const to of one.next[a]!) visit(to, b)
    for (const to of other.next[b]!) visit(a, to)
    one.crash[a]!.forEach((to, relay) => visit(to, other.crash[b]![relay]!))
  }
  return found
}
