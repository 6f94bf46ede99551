import { Duration } from "effect"

/** Where a check looks. */
export type Place = "kafka" | "redis" | "postgresql" | "settings" | "certificates" | "clocks"

/** What is wrong: what happens because of it, and what an operator does about it. */
export interface Fault {
  readonly consequence: string
  readonly remedy: string
}

/** The result of one check. `not_checked`: the doctor may not or cannot read the value, so it may be wrong. */
export interface Result {
  readonly place: Place
  /** Name of the check, the same in each run. */
  readonly check: string
  readonly state: "ok" | "finding" | "not_checked"
  /** What the check read, with its numbers; for `not_checked` the reason. */
  readonly found: string
  readonly fault?: Fault
}

/** Makes the results of one place. */
export const at = (place: Place) => ({
  /** `fault` is undefined when the value is right. */
  judge: (check: string, found: string, fault: Fault | undefined): Result =>
    fault === undefined ? { place, check, state: "ok", found } : { place, check, state: "finding", found, fault },
  notChecked: (check: string, why: string): Result => ({ place, check, state: "not_checked", found: why })
})

/** The fault when the condition holds. */
export const when = (wrong: boolean, consequence: string, remedy: string): Fault | undefined =>
  wrong ? { consequence, remedy } : undefined

/** Bytes for people. */
export const bytes = (count: number) =>
  count >= 1024 ** 2
    ? `${(count / 1024 ** 2).toFixed(1)} MiB`
    : count >= 1024
    ? `${(count / 1024).toFixed(1)} KiB`
    : `${count} bytes`

/** Milliseconds for people; -1 is the brokers' word for no limit. */
export const millis = (count: number) => count < 0 ? "no limit" : Duration.format(Duration.millis(count))
