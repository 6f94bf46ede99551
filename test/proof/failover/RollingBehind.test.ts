import { describe, it } from "@effect/vitest"
import { rollingUpdate } from "../RollingUpdate.js"

describe("P9 P10: a rolling update of pods whose relays are behind", () => {
  it.scopedLive(
    "each pod is replaced with events in hand: no event is sent twice, nothing is lost",
    () => rollingUpdate("together", "behind"),
    300_000
  )
})
