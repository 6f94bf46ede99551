import { DateTime, Effect, HashMap, Option, Record, Ref } from "effect"
import { cached } from "./Cached.js"

/** How a dependency does. */
export type Health = "ok" | { readonly reason: string }

/** What an operator sees of a dependency. The reason is there when it is not ok. */
export interface Dependency {
  readonly ok: boolean
  readonly required: boolean
  readonly reason?: string
  /** Since when it is ok, or not. */
  readonly since: string
}

export interface ReadinessOptions {
  /** Without these the process is not ready. */
  readonly required: ReadonlyArray<string>
  /** These are shown only. */
  readonly optional?: ReadonlyArray<string>
  /** Looked at when somebody asks, once a second at the most; the message of the error is the reason. The others report. */
  readonly probes?: Record.ReadonlyRecord<string, Effect.Effect<unknown, Error>>
}

interface State {
  /** By who says so. */
  readonly problems: ReadonlyMap<string, string>
  readonly since: DateTime.Utc
}

const isOkay = ({ problems }: State) => problems.size === 0

/**
 * What the process depends on, and whether it is there.
 *
 * A dependency of which nobody has said anything yet is not ok, with the reason `starting`.
 */
export class Readiness extends Effect.Service<Readiness>()("payments/Readiness", {
  effect: Effect.fnUntraced(function*({ optional = [], probes = {}, required }: ReadinessOptions) {
    const started = yield* DateTime.now
    const starting: State = { problems: new Map([["", "starting"]]), since: started }
    const names = [...required, ...Object.keys(probes), ...optional]
    const states = yield* Ref.make(HashMap.fromIterable(names.map((name) => [name, starting] as const)))

    /**
     * Says how a dependency does now. The reason reaches operators: no secrets, no payloads. Several may speak for one
     * dependency, each with a `voice` of its own: it is ok when none of them has a problem.
     */
    const set = Effect.fnUntraced(function*(name: string, health: Health, voice = "") {
      const now = yield* DateTime.now
      yield* Ref.update(
        states,
        HashMap.modifyAt(name, (found) => {
          const before = Option.getOrUndefined(found)
          // nobody else may say that it has started
          if (before === starting && voice !== "" && health === "ok") return found
          const problems = new Map(before === starting ? [] : before?.problems)
          if (health === "ok") problems.delete(voice)
          else problems.set(voice, health.reason)
          const state = { problems, since: now }
          const same = before !== undefined && before !== starting && isOkay(before) === isOkay(state)
          return Option.some(same ? { ...state, since: before.since } : state)
        })
      )
    })

    const looks = yield* Effect.all(Record.map(probes, (probe, name) =>
      probe.pipe(
        Effect.matchEffect({
          onFailure: (error) => set(name, { reason: error.message }),
          onSuccess: () => set(name, "ok")
        }),
        cached("1 second")
      )))

    /** Whether this dependency is there. */
    const isOk = Effect.fnUntraced(function*(name: string) {
      yield* looks[name] ?? Effect.void
      return Option.exists(HashMap.get(yield* Ref.get(states), name), isOkay)
    })

    /** All dependencies by name, and whether all required ones are there. */
    const current = Effect.gen(function*() {
      yield* Effect.all(Object.values(looks), { concurrency: "unbounded", discard: true })
      const all = Array.from(yield* Ref.get(states)).sort(([a], [b]) => a < b ? -1 : 1)
      const dependencies = Record.fromEntries(all.map(([name, state]): [string, Dependency] => [name, {
        ok: isOkay(state),
        required: required.includes(name),
        ...(isOkay(state) ? {} : { reason: Array.from(state.problems.values()).join("; ") }),
        since: DateTime.formatIso(state.since)
      }]))
      return { ready: Object.values(dependencies).every((_) => _.ok || !_.required), dependencies }
    })

    return { set, isOk, current } as const
  })
}) {}
