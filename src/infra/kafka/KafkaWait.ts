import { DateTime, Duration, Effect } from "effect"
import type { Look } from "./KafkaTopic.js"
import type { Progress } from "./PartitionProgress.js"

/** The state of a consumer. */
export interface Standing {
  /** Records that are written and not done, by partition of this consumer. Leaves out unknown lags. */
  readonly lags: ReadonlyMap<number, number>
  /** The reason, when the consumer or some of its partitions make no progress. */
  readonly problem: string | undefined
}

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
  /** Since when the consumer is not a member. Undefined for a member. */
  let leftAt: number | undefined = started
  let look: Look | undefined
  let lookedAt = started
  let failure: string | undefined
  let fetchedAt = started
  const seen = new Map<number, Seen>()
  /** The beginning of open transactions by partition, and since when it is known. */
  const transactions = new Map<number, { readonly stable: bigint; readonly at: number }>()

  /** The reason why this partition makes no progress. */
  const whyOf = (partition: number, { progress }: Cell): string => {
    if (progress.inHand !== undefined) {
      return `a batch is in progress since ${time(progress.begunAt)}, and the next offset is ${progress.done}`
    }
    const ends = look?.ends.get(partition)
    if (ends === undefined) return "it has no leader"
    const transaction = transactions.get(partition)
    if (transaction !== undefined && progress.done >= ends.stable) {
      const records = ends.high - ends.stable
      return `an open transaction upstream holds ${records} records from offset ${ends.stable} on, since ${
        time(transaction.at)
      }`
    }
    return `no fetch was answered since ${time(fetchedAt)}`
  }

  const lagOf = (partition: number, { progress }: Cell) => {
    const high = look?.ends.get(partition)?.high
    return high === undefined ? undefined : Math.max(0, Number(high - progress.done))
  }

  /** The state of the consumer now. Call it regularly: it compares with the state of its last call. */
  const standing = (now: number): Standing => {
    const stalled: Array<string> = []
    const lags = new Map<number, number>()
    const fresh = now - lookedAt <= patience
    for (const [partition, cell] of cells) {
      const lag = lagOf(partition, cell)
      const before = seen.get(partition)
      const { done } = cell.progress
      const since = before === undefined || before.done !== done || lag === 0 ? { done, at: now } : before
      seen.set(partition, since)
      if (fresh && lag !== undefined) lags.set(partition, lag)
      if (now - since.at > patience) {
        stalled.push(
          `partition ${partition}: ${lag === undefined ? "" : `${lag} records behind, `}${whyOf(partition, cell)}`
        )
      }
    }
    const more = stalled.length > named ? `; and ${stalled.length - named} more partitions` : ""
    const problem = !fresh
      ? failure ?? `the brokers have not answered since ${time(lookedAt)}`
      : leftAt !== undefined && now - leftAt > patience
      ? `not a member of group ${groupId} since ${time(leftAt)}${failure === undefined ? "" : `: ${failure}`}`
      : stalled.length > 0
      ? stalled.slice(0, named).join("; ") + more
      : undefined
    return { lags, problem }
  }

  return {
    standing,
    /** The group has assigned these partitions. */
    joined: (given: ReadonlyMap<number, Cell>) => {
      cells = given
      leftAt = undefined
      failure = undefined
    },
    /** The group rebalances, or has removed this member. */
    left: (now: number) => {
      leftAt ??= now
      cells = new Map()
    },
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
    failed: (reason: string) => void (failure = reason),
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

/** Reports the state each second, for ever. At its end it reports a state without lags. */
export const watch = (wait: KafkaWait, onStanding: (standing: Standing) => Effect.Effect<void>): Effect.Effect<never> =>
  Effect.clockWith((clock) => clock.currentTimeMillis).pipe(
    Effect.flatMap((now) => onStanding(wait.standing(now))),
    Effect.delay("1 second"),
    Effect.forever,
    Effect.onExit(() => onStanding({ lags: new Map(), problem: undefined }))
  )
