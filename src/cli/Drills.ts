import { Command } from "@effect/cli"
import { Console, Effect, Layer, Option, Ref } from "effect"
import { readSettings } from "../Config.js"
import { crashPoints, Drill } from "../drills/CrashPoint.js"
import { ConfigProblems } from "../infra/runtime/Setting.js"
import { json, print } from "./Output.js"

/** Kills this process: no finalizer runs, nothing is flushed. */
const die = Effect.sync(() => process.kill(process.pid, "SIGKILL"))

/** Arms the drill of `PAYMENTS_DRILL`. Fails with `ConfigProblems` unless `PAYMENTS_DRILLS_ALLOWED` is true. */
export const layer = Layer.unwrapEffect(Effect.gen(function*() {
  const { drill, drillsAllowed } = yield* readSettings("drill", "drillsAllowed")
  if (Option.isNone(drill)) return Layer.empty
  if (!drillsAllowed) {
    const problem = "is set without PAYMENTS_DRILLS_ALLOWED=true: a drill kills the process"
    return yield* new ConfigProblems({
      problems: [{ variable: "PAYMENTS_DRILL", problem, example: `${drill.value.point} PAYMENTS_DRILLS_ALLOWED=true` }]
    })
  }
  const { passage, point } = drill.value
  yield* Effect.logWarning(`a drill is armed: this process kills itself at ${point}, passage ${passage}`)
  const passed = yield* Ref.make(0)
  return Layer.succeed(Drill, {
    pass: (name) =>
      name === point
        ? Effect.flatMap(Ref.updateAndGet(passed, (n) => n + 1), (n) => n === passage ? die : Effect.void)
        : Effect.void
  })
}))

/** Lists the crash points with what each leaves behind. */
export const command = Command.make("drills", { json }, ({ json }) =>
  Effect.forEach(
    Object.entries(crashPoints),
    ([point, { leaves, recovery, moment }]) =>
      print(
        json,
        { point, moment, leaves, recovery },
        `${point}\n  moment    ${moment}\n  leaves    ${leaves}\n  recovery  ${recovery}\n`
      ),
    { discard: true }
  ).pipe(Effect.zipRight(
    json ? Effect.void : Console.log("PAYMENTS_DRILLS_ALLOWED=true PAYMENTS_DRILL=<point>[:<n>] payments serve")
  ))).pipe(Command.withDescription("List the moments at which a drill can kill the process"))
