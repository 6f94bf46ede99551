import { DateTime, Duration, Effect, Option, Record } from "effect"
import { cached } from "./Cached.js"
import * as HealthLog from "./HealthLog.js"
import type { Part, PartOptions, State } from "./HealthPart.js"
import { Keeper } from "./HealthPart.js"
import type { Problem, Reason } from "./Problem.js"
import { problemOf } from "./Problem.js"

export type { Part, Work } from "./HealthPart.js"

export interface HealthOptions {
  readonly parts: Readonly<Record<string, PartOptions>>
  /** Addresses of the servers, for the log. */
  readonly where?: HealthLog.Addresses
}

/** A part as `/readyz` shows it. */
export interface Shown {
  /** True when the state is `working`. */
  readonly ok: boolean
  readonly required: boolean
  readonly state: State
  /** What the part waits for. Present in the state `waiting`. */
  readonly waiting_for?: Reason
  /** Text for operators. Present when the part is not ok. */
  readonly reason?: string
  /** ISO time at which the state began. */
  readonly since: string
}

const lookEvery = Duration.seconds(1)
const probeEvery = Duration.seconds(3)

const whyOf = (waits: ReadonlyArray<Problem>) => [...new Set(waits.map(({ why }) => why))].slice(0, 4).join("; ")

/** The health of a process with these parts. */
export const make = Effect.fnUntraced(function*({ parts, where = {} }: HealthOptions) {
  const clock = yield* Effect.clock
  const now = () => Number(clock.unsafeCurrentTimeNanos() / 1_000_000n)
  const epoch = () => clock.unsafeCurrentTimeMillis()
  const keepers = new Map<string, Keeper>()
  const declare = (name: string, options: PartOptions) => {
    const keeper = new Keeper(name, options, now, epoch())
    keepers.set(name, keeper)
    return keeper
  }
  for (const [name, options] of Object.entries(parts)) declare(name, options)

  /** The part of this name. A part that was not declared is shown and not required. */
  const part = (name: string): Part => keepers.get(name) ?? declare(name, { roles: [], required: false })

  const probes = yield* Effect.all(Record.map(
    Record.filterMap(parts, ({ probe }) => Option.fromNullable(probe)),
    (probe, name) =>
      probe.pipe(
        Effect.match({
          onFailure: (error) => part(name).failed(problemOf(error, "no_progress")),
          onSuccess: part(name).working
        }),
        cached("1 second")
      )
  ))
  const probeAll = Effect.all(Object.values(probes), { concurrency: "unbounded", discard: true })

  const settled = () => {
    const [at, wall] = [now(), epoch()]
    return Array.from(keepers.values(), (keeper) => {
      const waits = keeper.waits(at)
      keeper.settle(waits, at, wall)
      return { keeper, waits } as const
    })
  }

  const show = ({ keeper, waits }: ReturnType<typeof settled>[number]): Shown => {
    const { options, since, state } = keeper
    const ok = state === "working"
    return {
      ok,
      required: options.required ?? true,
      state,
      ...(state === "waiting" ? { waiting_for: waits[0]!.reason } : {}),
      ...(ok ? {} : { reason: state === "waiting" ? whyOf(waits) : state }),
      since: DateTime.formatIso(DateTime.unsafeMake(since))
    }
  }

  const stateOf = (role: string | undefined) => {
      const all = settled().filter(({ keeper }) => role === undefined || keeper.options.roles.includes(role))
        .sort((a, b) => a.keeper.name < b.keeper.name ? -1 : 1)
      const dependencies = Record.fromEntries(all.map((one) => [one.keeper.name, show(one)]))
      const required = all.filter(({ keeper }) => keeper.options.required ?? true)
      return {
        ready: required.every(({ keeper }) => keeper.state === "working"),
        started: required.every(({ keeper }) => keeper.started),
        dependencies
      }
  }

  /** All parts, or those of a role: `ready` when all required ones are ok, `started` when all of these have worked once. */
  const current = (role?: string) => Effect.map(probeAll, () => stateOf(role))

  /** The same for all parts, from what the last probes have found. */
  const known = Effect.sync(() => stateOf(undefined))

  const log = HealthLog.make(where)

  const measured = () => {
    const all = settled()
    for (const { keeper, waits } of all) keeper.measure(waits)
    return all
  }

  /** Sets the gauges to the state of this moment: that of `current`. */
  const measure = Effect.asVoid(Effect.sync(measured))

  /** Sets the gauges, and logs what has begun, lasts, or is over. */
  const look = Effect.suspend(() => {
    const all = measured()
    return log(
      now(),
      all.flatMap(({ keeper: { name, options }, waits }) =>
        waits.map((wait) => ({ ...wait, part: name, required: options.required ?? true }))
      )
    )
  })

  /** Keeps metrics and log current, for ever. Run it once, beside all parts. */
  const watch: Effect.Effect<never> = Effect.all([
    Effect.forever(Effect.zipRight(look, Effect.sleep(lookEvery))),
    Effect.forever(Effect.zipRight(probeAll, Effect.sleep(probeEvery)))
  ], { concurrency: "unbounded" }).pipe(Effect.zipRight(Effect.never))

  const roles: ReadonlyArray<string> = [...new Set(Object.values(parts).flatMap((options) => options.roles))]

  return { part, current, known, measure, watch, roles } as const
})

/**
 * The one truth about what this process does. Each part keeps its state where it works; `/readyz`, gRPC health, metrics and the
 * log are views of that state, so they cannot disagree. A state changes when work succeeds or fails, and not when an attempt
 * begins.
 */
export class Health extends Effect.Service<Health>()("payments/Health", { effect: make }) {}
