import { describe, it } from "@effect/vitest"
import { rollingUpdate } from "./RollingUpdate.js"

describe("P9 P10: a rolling update of pods with all roles", () => {
  it.scopedLive(
    "each pod is replaced under load: no call fails, no event is sent twice, nothing is lost",
    () => rollingUpdate("together"),
    300_000
  )
})
