import { DateTime, Effect, HashMap, Option, Record, Ref } from "effect"
import { cached } from "./Cached.js"

/** State of a dependency. */
export type Health = "ok" | { readonly reason: string }

/** A dependency as `/readyz` shows it. */
export interface Dependency {
  readonly ok: boolean
  readonly required: boolean
  /** Present when the dependency is not ok. */
  readonly reason?: string
  /** ISO time of the last change of `ok`. */
  readonly since: string
}

export interface ReadinessOptions {
  /** Dependencies that the process needs to be ready. */
  readonly required: ReadonlyArray<string>
  /** Dependencies that are shown and do not affect readiness. */
  readonly optional?: ReadonlyArray<string>
  /**
   * Checks by dependency. A request for the state runs them, at most once a second; the message of an error is the reason.
   * Dependencies without a check report by `set`.
   */
  readonly probes?: Record.ReadonlyRecord<string, Effect.Effect<unknown, Error>>
}

interface State {
  /** Reasons by reporter. */
  readonly problems: ReadonlyMap<string, string>
  readonly since: DateTime.Utc
}

const isOkay = ({ problems }: State) => problems.size === 0

/**
 * The dependencies of the process and their states.
 *
 * A dependency without a report is not ok, with the reason `starting`.
 */
export class Readiness extends Effect.Service<Readiness>()("payments/Readiness", {
  effect: Effect.fnUntraced(function*({ optional = [], probes = {}, required }: ReadinessOptions) {
    const started = yield* DateTime.now
    const starting: State = { problems: new Map([["", "starting"]]), since: started }
    const names = [...required, ...Object.keys(probes), ...optional]
    const states = yield* Ref.make(HashMap.fromIterable(names.map((name) => [name, starting] as const)))

    /**
     * Sets the state of a dependency. Operators see the reason: no secrets, no payloads. Several reporters may share a
     * dependency, each with its own name: the dependency is ok when no reporter has a problem.
     */
    const set = Effect.fnUntraced(function*(name: string, health: Health, reporter = "") {
      const now = yield* DateTime.now
      yield* Ref.update(
        states,
        HashMap.modifyAt(name, (found) => {
          const before = Option.getOrUndefined(found)
          // only the main reporter ("") ends `starting`
          if (before === starting && reporter !== "" && health === "ok") return found
          const problems = new Map(before === starting ? [] : before?.problems)
          if (health === "ok") problems.delete(reporter)
          else problems.set(reporter, health.reason)
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

    /** True when this dependency is ok. */
    const isOk = Effect.fnUntraced(function*(name: string) {
      yield* looks[name] ?? Effect.void
      return Option.exists(HashMap.get(yield* Ref.get(states), name), isOkay)
    })

    /** All dependencies by name; `ready` when all required ones are ok. */
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
