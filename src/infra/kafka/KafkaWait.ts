import { DateTime, Duration, Effect } from "effect"
import type { Problem, Reason } from "../runtime/Problem.js"
import { problemOf } from "../runtime/Problem.js"
import type { KafkaUnavailable } from "./KafkaClient.js"
import type { Look } from "./KafkaTopic.js"
import type { Progress } from "./PartitionProgress.js"

/** Milliseconds without progress after which a consumer reports the reason. The state of the topic may be 2 s old then. */
const patience = Duration.toMillis("7 seconds")
/** The most partitions in one report. */
const named = 4

const time = (millis: number) => DateTime.formatIso(DateTime.unsafeMake(millis))

interface Seen {
  readonly done: bigint
  /** When `done` had this value first, or when the partition had no lag last: milliseconds of the epoch. */
  readonly at: number
}

interface Cell {
  readonly progress: Progress<unknown>
}

/** Collects the events of a consumer, and finds out why it makes no progress. */
export const make = (groupId: string, started: number) => {
  let cells: ReadonlyMap<number, Cell> = new Map()
  /** The partitions of this member, also those whose positions are not known yet. */
  let partitions: ReadonlyArray<number> = []
  /** Since when this member has its partitions. */
  let joinedAt = started
  /** Since when the consumer is not a member. Undefined for a member. */
  let leftAt: number | undefined = started
  let look: Look | undefined
  let lookedAt = started
  let failure: Problem | undefined
  let fetchedAt = started
  const seen = new Map<number, Seen>()
  /** The beginning of open transactions by partition, and since when it is known. */
  const transactions = new Map<number, { readonly stable: bigint; readonly at: number }>()

  /** Why this partition makes no progress. */
  const whyOf = (now: number, partition: number, { progress }: Cell): readonly [Reason, string] => {
    if (progress.inHand !== undefined) {
      return [
        "no_progress",
        `a batch is in progress since ${time(progress.begunAt)}, and the next offset is ${progress.done}`
      ]
    }
    const ends = look?.ends.get(partition)
    if (ends === undefined) return ["kafka", "it has no leader"]
    const transaction = transactions.get(partition)
    if (transaction !== undefined && progress.done >= ends.stable) {
      const records = ends.high - ends.stable
      const since = time(transaction.at)
      return [
        "transaction",
        `an open transaction upstream holds ${records} records from offset ${ends.stable} on, since ${since}`
      ]
    }
    return [
      "kafka",
      now - fetchedAt > patience
        ? `no fetch was answered since ${time(fetchedAt)}`
        // a broker gives no records to a client whose requests are over its quota for their time
        : "fetches are answered without them: has the leader moved, or does a quota (request_percentage) throttle this client?"
    ]
  }

  const lagOf = (partition: number, { progress }: Cell) => {
    const high = look?.ends.get(partition)?.high
    return high === undefined ? undefined : Math.max(0, Number(high - progress.done))
  }

  /** The problem of the consumer now. Call it regularly: it compares with the state of its last call. */
  const standing = (now: number): Problem | undefined => {
    const stalled: Array<readonly [Reason, string]> = []
    const fresh = now - lookedAt <= patience
    for (const [partition, cell] of cells) {
      const lag = lagOf(partition, cell)
      const before = seen.get(partition)
      const { done } = cell.progress
      const since = before === undefined || before.done !== done || lag === 0 ? { done, at: now } : before
      seen.set(partition, since)
      if (now - since.at > patience) {
        const [reason, why] = whyOf(now, partition, cell)
        stalled.push([reason, `partition ${partition}: ${lag === undefined ? "" : `${lag} records behind, `}${why}`])
      }
    }
    for (const partition of partitions) {
      if (!cells.has(partition) && now - joinedAt > patience) {
        stalled.push(["kafka", `partition ${partition}: it has no leader`])
      }
    }
    if (!fresh) return failure ?? { reason: "kafka", why: `the brokers have not answered since ${time(lookedAt)}` }
    if (leftAt !== undefined && now - leftAt > patience) {
      const why = `not a member of group ${groupId} since ${time(leftAt)}`
      return failure === undefined
        ? { reason: "group", why }
        : { reason: failure.reason, why: `${why}: ${failure.why}` }
    }
    if (stalled.length === 0) return undefined
    const [first] = stalled.find(([reason]) => reason !== "no_progress") ?? stalled[0]!
    const more = stalled.length > named ? `; and ${stalled.length - named} more partitions` : ""
    return { reason: first, why: stalled.slice(0, named).map(([, why]) => why).join("; ") + more }
  }

  return {
    standing,
    /** The group has assigned these partitions. */
    joined: (now: number, assigned: ReadonlyArray<number>, given: ReadonlyMap<number, Cell>) => {
      if (partitions !== assigned) joinedAt = now
      partitions = assigned
      cells = given
      leftAt = undefined
      failure = undefined
    },
    /**
     * The group rebalances, or has removed this member. The partitions stay in view until the next assignment: a member that
     * joins again and again makes no progress either.
     */
    left: (now: number) => void (leftAt ??= now),
    fetched: (now: number) => void (fetchedAt = now),
    /** The brokers have answered with the state of the topic. */
    looked: (now: number, next: Look) => {
      look = next
      lookedAt = now
      failure = undefined
      for (const [partition, { high, stable }] of next.ends) {
        if (stable >= high) transactions.delete(partition)
        else if (transactions.get(partition)?.stable !== stable) transactions.set(partition, { stable, at: now })
      }
    },
    /** A request failed. The consumer repeats it. */
    failed: (error: KafkaUnavailable) => void (failure = problemOf(error, "kafka")),
    /** Records that were not done at the last state of the topic. */
    unread: (partition: number): bigint | undefined => {
      const [cell, ends] = [cells.get(partition), look?.ends.get(partition)]
      return cell === undefined || ends === undefined || ends.high < cell.progress.done
        ? undefined
        : ends.high - cell.progress.done
    }
  } as const
}

export type KafkaWait = ReturnType<typeof make>

/** Reports the problem each second, for ever. `now` is the clock of all events of `wait`. At its end it reports none. */
export const watch = (
  wait: KafkaWait,
  now: () => number,
  onStanding: (problem: Problem | undefined) => Effect.Effect<void>
): Effect.Effect<never> =>
  Effect.suspend(() => onStanding(wait.standing(now()))).pipe(
    Effect.delay("1 second"),
    Effect.forever,
    Effect.onExit(() => onStanding(undefined))
  )
