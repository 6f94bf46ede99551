import { describe, it } from "@effect/vitest"
import { rollingUpdate } from "../RollingUpdate.js"

describe("P9 P10: a rolling update", () => {
  it.scopedLive(
    "as the chart says, under load: no call fails, no event is sent twice, nothing is lost",
    () => rollingUpdate("minimal"),
    300_000
  )
})
