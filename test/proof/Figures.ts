import { Clock, Effect } from "effect"
import { getCurrentTest } from "vitest/suite"

/** What a world has shown in a test. */
interface Shown {
  readonly delivery: string
  /** Seconds from the beginning of each repair until an order was settled and every instance was ready. */
  readonly recovered: Array<number>
  /** The longest time between two settled orders under load, in seconds. */
  pause: number
  /** Calls that were answered with UNAVAILABLE. */
  unavailable: number
  /** Records of topic `payment`, and those that have the key of another one, at the last audit. */
  records: number
  resent: number
}

declare module "vitest" {
  interface TaskMeta {
    /** One for each world of the test. */
    worlds?: Array<Shown>
  }
}

/** Collects the figures of a world with this delivery, for the test that runs. */
export const make = (delivery: string) => {
  const figures: Shown = { delivery, recovered: [], pause: 0, unavailable: 0, records: 0, resent: 0 }
  let last: number | undefined

  const show = Effect.sync(() => {
    const meta = getCurrentTest()?.meta
    if (meta !== undefined) meta.worlds = [...new Set([...(meta.worlds ?? []), figures])]
  })

  return {
    /** The load begins. Times without load are no pauses. */
    loaded: Effect.zipRight(show, Effect.sync(() => (last = undefined))),
    /** An order is settled. */
    settled: Effect.map(Clock.currentTimeMillis, (now) => {
      figures.pause = Math.max(figures.pause, (now - (last ?? now)) / 1_000)
      last = now
    }),
    /** The repair that began then has ended. */
    recovered: (began: number) =>
      Effect.map(Clock.currentTimeMillis, (now) => void figures.recovered.push((now - began) / 1_000)),
    audited: (counts: Pick<Shown, "records" | "resent" | "unavailable">) =>
      Effect.zipRight(show, Effect.sync(() => Object.assign(figures, counts)))
  } as const
}

const seconds = (n: number) => `${n.toFixed(1)} s`

/** The figures of a world in one line. */
export const line = ({ delivery, pause, records, recovered, resent, unavailable }: Shown) =>
  [
    `${delivery}:`,
    ...recovered.length === 0 ? [] : [`recovered in ${recovered.map(seconds).join(" and ")},`],
    ...pause === 0 ? [] : [`longest pause ${seconds(pause)},`],
    `${resent} of ${records} records resent,`,
    `${unavailable} calls UNAVAILABLE`
  ].join(" ")
