import type { Shown } from "../../infra/runtime/Health.js"
import type { PartState, Sample, Standing } from "../api/Saga.js"
import * as Runbook from "./Runbook.js"

type Item = typeof Standing.Type

/** An event that waits for longer than these seconds is shown: a healthy relay takes well under one. */
const waitingLong = 10
/** Lag that is shown while the consumer goes on. */
const lagShown = 1_000
/** Samples without a processed record, while records wait, after which the consumer stands still. */
const stillAfter = 3

const count = (n: number, one: string, many: string) => n === 1 ? `1 ${one}` : `${n} ${many}`

/** The parts of this process by name. */
export const partsOf = (dependencies: Readonly<Record<string, Shown>>): ReadonlyArray<typeof PartState.Type> =>
  Object.entries(dependencies).map(([name, { ok, reason, required, since, state, waiting_for }]) => ({
    name,
    ok,
    required,
    state,
    waiting_for: waiting_for ?? null,
    reason: ok ? null : reason ?? null,
    since: new Date(since),
    runbook: Runbook.sectionOf(name, waiting_for)
  }))

/**
 * The time of the first sample since when a figure is above 0, up to now. A sample without the figure says nothing: an outage of
 * the server that knows it does not begin the time anew.
 */
const sinceOf = (history: ReadonlyArray<Sample>, figure: "lag" | "dead" | "dead_letters"): Date | null => {
  let since: Date | null = null
  for (let i = history.length - 1; i >= 0 && history[i]![figure] !== 0; i--) {
    if (history[i]![figure] !== null) since = history[i]!.at
  }
  return since
}

const consumerOf = (history: ReadonlyArray<Sample>): ReadonlyArray<Item> => {
  const { consumed, lag } = history.at(-1)!
  if (lag === null || lag === 0) return []
  const last = history.slice(-stillAfter)
  const still = last.length === stillAfter && last.every((one) => one.consumed === 0 && (one.lag ?? 0) > 0)
  const base = { where: "consumer", part: null, since: sinceOf(history, "lag") } as const
  if (still) {
    return [{
      ...base,
      urgent: true,
      says: `${count(lag, "inventory record waits", "inventory records wait")}, and no consumer processes them`,
      runbook: Runbook.sections.still
    }]
  }
  return lag < lagShown ? [] : [{
    ...base,
    urgent: false,
    says: `The consumer is ${lag} records behind` +
      (consumed === null || consumed === 0 ? "" : `: ${Math.ceil(lag / consumed)} s at its speed now`),
    runbook: Runbook.sections.behind
  }]
}

const outboxOf = (history: ReadonlyArray<Sample>): ReadonlyArray<Item> => {
  const { at, dead, oldest_seconds, waiting } = history.at(-1)!
  return [
    ...(dead !== null && dead > 0
      ? [
        {
          where: "outbox",
          part: null,
          urgent: true,
          says: `${
            count(dead, "event is dead: its order waits", "events are dead: their orders wait")
          } for an operator`,
          since: sinceOf(history, "dead"),
          runbook: Runbook.sections.dead
        } as const
      ]
      : []),
    ...(oldest_seconds !== null && oldest_seconds > waitingLong
      ? [
        {
          where: "relay",
          part: null,
          urgent: true,
          says: `${count(waiting ?? 1, "event waits", "events wait")} to be published, the oldest`,
          since: new Date(at.getTime() - oldest_seconds * 1_000),
          runbook: Runbook.sections.waiting
        } as const
      ]
      : [])
  ]
}

const lettersOf = (history: ReadonlyArray<Sample>): ReadonlyArray<Item> => {
  const { dead_letters } = history.at(-1)!
  return dead_letters === null || dead_letters === 0 ? [] : [{
    where: "dead-letters",
    part: null,
    urgent: false,
    says: count(dead_letters, "dead letter is on its topic", "dead letters are on their topic"),
    since: sinceOf(history, "dead_letters"),
    runbook: Runbook.sections.letters
  }]
}

/** What stands still, the most urgent first: parts of this process, then stages of the flow. */
export const of = (
  parts: ReadonlyArray<typeof PartState.Type>,
  history: ReadonlyArray<Sample>
): ReadonlyArray<Item> => {
  const waiting = parts.filter(({ state }) => state === "waiting" || state === "stopped").map((part): Item => ({
    where: "part",
    part: part.name,
    urgent: part.required,
    says: `${part.name}: ${part.reason ?? part.state}`,
    since: part.since,
    runbook: part.runbook
  }))
  const flow = history.length === 0 ? [] : [...consumerOf(history), ...outboxOf(history), ...lettersOf(history)]
  return [...waiting, ...flow].sort((a, b) => Number(b.urgent) - Number(a.urgent))
}
