import { Duration, Effect } from "effect"
import type { Problem, Reason } from "./Problem.js"
import { reasons } from "./Problem.js"

/** Address of each server, without secrets. */
export type Addresses = Partial<Readonly<Record<Reason, string>>>

/** A wait of a part. `since` is milliseconds of the monotonic clock. */
export interface Waiting extends Problem {
  readonly part: string
  /** Whether the part is required for readiness. */
  readonly required: boolean
  readonly doing: string
  readonly since: number
}

/** Milliseconds between two lines of a wait: of a server or a required part, and of an optional part. */
const [remindEvery, remindOptional] = [Duration.toMillis("1 minute"), Duration.toMillis("1 hour")]
/** Texts in one line at the most. */
const named = 4

/** What several parts wait for together: their waits are one line. */
const shared: ReadonlySet<Reason> = new Set(["postgres", "kafka", "redis", "topic", "issuer"])

/** A time for operators, in whole seconds. */
export const time = (millis: number) => Duration.format(Duration.seconds(Math.round(millis / 1_000)))

const list = (texts: ReadonlyArray<string>, separator = ", ") => {
  const all = [...new Set(texts)]
  return all.slice(0, named).join(separator) + (all.length > named ? `${separator}and ${all.length - named} more` : "")
}

/** A wait in the log: its begin and its last line. */
interface Told {
  readonly reason: Reason
  readonly since: number
  at: number
}

/**
 * Returns a function that compares the waits of all parts with those of its last call, and logs the difference: one line when a
 * wait begins, one a minute while it lasts (an hour for a part that is not required), and one when it is over. Waits of several
 * parts for the same server, or for topics, are one wait.
 */
export const make = (where: Addresses) => {
  const told = new Map<string, Told>()
  const words = (reason: Reason) => reasons[reason] + (where[reason] === undefined ? "" : ` at ${where[reason]}`)

  return (now: number, waits: ReadonlyArray<Waiting>): Effect.Effect<void> => {
    const groups = new Map<string, [Waiting, ...Array<Waiting>]>()
    for (const wait of waits) {
      const key = shared.has(wait.reason) ? wait.reason : `${wait.part} ${wait.reason}`
      const group = groups.get(key)
      if (group === undefined) groups.set(key, [wait])
      else group.push(wait)
    }
    const lines: Array<Effect.Effect<void>> = []
    for (const [key, group] of groups) {
      const [{ reason }] = group
      const known = told.get(key)
      const minutes = shared.has(reason) || group.some(({ required }) => required)
      if (known !== undefined && now - known.at < (minutes ? remindEvery : remindOptional)) continue
      const since = known?.since ?? Math.min(...group.map((wait) => wait.since))
      told.set(key, { reason, since, at: now })
      const why = list(group.map((wait) => wait.why), "; ")
      const line = known === undefined
        ? `${words(reason)}: ${why}`
        : `still ${words(reason)}, for ${time(now - since)}: ${why}`
      const waiting = list(group.map(({ doing }) => doing).filter((doing) => doing !== ""))
      lines.push(Effect.annotateLogs(Effect.logWarning(line), {
        reason,
        parts: list(group.map(({ part }) => part)),
        ...(waiting === "" ? {} : { waiting }),
        seconds: Math.round((now - since) / 1_000)
      }))
    }
    for (const [key, { reason, since }] of told) {
      if (groups.has(key)) continue
      told.delete(key)
      lines.push(Effect.annotateLogs(Effect.logInfo(`no longer ${words(reason)}, after ${time(now - since)}`), {
        reason,
        seconds: Math.round((now - since) / 1_000)
      }))
    }
    return Effect.all(lines, { discard: true })
  }
}
