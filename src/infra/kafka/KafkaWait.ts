import { DateTime, Duration, Effect } from "effect"
import type { Look } from "./KafkaTopic.js"
import type { Progress } from "./PartitionProgress.js"

/** How a consumer stands. */
export interface Standing {
  /** Records that are written and not done with, by partition of this consumer. Unknown ones are absent. */
  readonly lags: ReadonlyMap<number, number>
  /** Why nothing goes on, for those partitions where nothing does. */
  readonly problem: string | undefined
}

/** Without progress for this long, a consumer says what it waits for. A look may be two seconds old by then. */
const patience = Duration.toMillis("7 seconds")
/** So many partitions are named. */
const named = 4

const time = (millis: number) => DateTime.formatIso(DateTime.unsafeMake(millis))

interface Seen {
  readonly done: bigint
  /** When it was first seen there, or last had nothing to do. */
  readonly at: number
}

interface Cell {
  readonly progress: Progress<unknown>
}

/** What is known of a consumer, told by those who know. */
export const make = (groupId: string, started: number) => {
  let cells: ReadonlyMap<number, Cell> = new Map()
  /** Undefined while it is a member. */
  let leftAt: number | undefined = started
  let look: Look | undefined
  let lookedAt = started
  let failure: string | undefined
  let fetchedAt = started
  const seen = new Map<number, Seen>()
  /** Where open transactions begin, and since when. */
  const held = new Map<number, { readonly stable: bigint; readonly at: number }>()

  /** Why this partition does not go on. */
  const whyOf = (partition: number, { progress }: Cell): string => {
    if (progress.inHand !== undefined) {
      return `a batch is in hand since ${time(progress.begunAt)}, the next offset to be done with is ${progress.done}`
    }
    const ends = look?.ends.get(partition)
    if (ends === undefined) return "it has no leader"
    const transaction = held.get(partition)
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

  /** How the consumer stands now. It is to be asked again and again: what it says rests on what it saw before. */
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
    const more = stalled.length > named ? `; and ${stalled.length - named} partitions more` : ""
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
    /** The group has given these partitions to it. */
    joined: (given: ReadonlyMap<number, Cell>) => {
      cells = given
      leftAt = undefined
      failure = undefined
    },
    /** The group shares its partitions anew, or does not keep it. */
    left: (now: number) => {
      leftAt ??= now
      cells = new Map()
    },
    fetched: (now: number) => void (fetchedAt = now),
    /** The brokers have told where the partitions end. */
    looked: (now: number, next: Look) => {
      look = next
      lookedAt = now
      failure = undefined
      for (const [partition, { high, stable }] of next.ends) {
        if (stable >= high) held.delete(partition)
        else if (held.get(partition)?.stable !== stable) held.set(partition, { stable, at: now })
      }
    },
    /** Something that it needs did not work; it is tried again. */
    failed: (reason: string) => void (failure = reason),
    /** What was written and not done with when the brokers told last: at most, and of that topic. */
    unread: (partition: number): bigint | undefined => {
      const [cell, ends] = [cells.get(partition), look?.ends.get(partition)]
      return cell === undefined || ends === undefined || ends.high < cell.progress.done
        ? undefined
        : ends.high - cell.progress.done
    }
  } as const
}

export type KafkaWait = ReturnType<typeof make>

/** Tells how the consumer stands, each second, for the life of the scope; at its end nothing is known. */
export const tell = (wait: KafkaWait, onStanding: (standing: Standing) => Effect.Effect<void>) =>
  Effect.clockWith((clock) => clock.currentTimeMillis).pipe(
    Effect.flatMap((now) => onStanding(wait.standing(now))),
    Effect.delay("1 second"),
    Effect.forever,
    Effect.onExit(() => onStanding({ lags: new Map(), problem: undefined })),
    Effect.forkScoped
  )
