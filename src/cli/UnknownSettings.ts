import { AutoCorrect, CliConfig } from "@effect/cli"
import { Effect } from "effect"
import { environmentNames, settings } from "../Config.js"

const known = Object.values(settings).map(({ name }) => name)

/** Prefixes that only this service uses: a name with one of them is ours, however far it is from every setting. */
const own = ["OUTBOX_", "DEDUPE_", "INVENTORY_"]
/** Variables that Kubernetes and Docker set for a service of such a name. */
const ofService = /_(SERVICE_(HOST|PORT)|PORT|TCP|ADDR|PROTO)(_|$)/

/** The known setting that is nearest to a name, and the number of letters between the two. */
const nearest = (name: string) =>
  known.map((setting) => [setting, AutoCorrect.levensteinDistance(name, setting, CliConfig.defaultConfig)] as const)
    .reduce((best, one) => one[1] < best[1] ? one : best)

/** A variable of the environment that looks like a setting and is none, and the setting that it resembles. */
export interface Unknown {
  readonly name: string
  readonly nearest: string
}

/** Finds the names that no setting has: those with an own prefix, and those that differ from a setting by a few letters. */
export const unknownAmong = (names: ReadonlyArray<string>): ReadonlyArray<Unknown> =>
  names.filter((name) => !known.includes(name) && /^[A-Z][A-Z0-9_]*$/.test(name)).flatMap((name) => {
    const [setting, distance] = nearest(name)
    const isTypo = distance <= Math.min(3, Math.floor(setting.length / 5))
    const isOurs = own.some((prefix) => name.startsWith(prefix)) && !ofService.test(name)
    return isTypo || isOurs ? [{ name, nearest: setting }] : []
  })

/** Logs each variable of the environment that looks like a setting and is none: nothing reads it. Never its value. */
export const warnOfUnknownSettings = Effect.suspend(() =>
  Effect.forEach(
    unknownAmong(environmentNames()),
    ({ name, nearest }) => Effect.logWarning(`${name} is no setting: nothing reads it. Did you mean ${nearest}?`),
    { discard: true }
  )
)
