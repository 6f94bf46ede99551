import { Effect } from "effect"
import type { Part } from "../infra/runtime/Health.js"
import { supervise } from "../infra/runtime/Supervisor.js"
import type { PartName } from "../ops/Parts.js"
import * as Parts from "../ops/Parts.js"

/** Runs a service under its supervisor. It has to report `working` to its part. */
export const supervised = <E, R, F extends E = never>(
  name: PartName,
  run: (part: Part) => Effect.Effect<never, E, R>,
  isFinal?: (error: E) => error is F
) => Effect.flatMap(Parts.part(name), (part) => supervise(part, run(part), isFinal))
