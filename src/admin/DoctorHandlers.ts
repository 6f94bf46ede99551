import { HttpApiBuilder } from "@effect/platform"
import { Clock, Effect } from "effect"
import type { Diagnosis } from "../doctor/Doctor.js"
import * as Report from "../doctor/Report.js"
import { cached } from "../infra/runtime/Cached.js"
import { Api } from "./Api.js"

/** Answers `/api/doctor`: one examination at a time, and at most one in 10 seconds. */
export const layer = (examine: Effect.Effect<Diagnosis>) =>
  HttpApiBuilder.group(Api, "doctor", (handlers) =>
    Effect.gen(function*() {
      const findings = yield* Effect.gen(function*() {
        const diagnosis = yield* examine
        return { at: new Date(yield* Clock.currentTimeMillis), ...Report.summary(diagnosis) }
      }).pipe(cached("10 seconds"))
      return handlers.handle("findings", () => findings)
    }))
