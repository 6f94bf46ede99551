import { assert, describe, it } from "@effect/vitest"
import { large } from "../Bounds.js"
import { explore } from "../exactlyOnce/Explore.js"
import { program, protocol, start } from "../exactlyOnce/Protocol.js"

/** The acts that change something where they arrive. */
const changing = program.filter((act) => act !== "read")

// the other cases are in test/proof/exactlyOnce: this one alone takes as long as half of them
describe("P4: every interleaving, with any number of crashes, lost requests and lost answers", () => {
  it("the number of shards changed while requests may be late", async () => {
    const [orders, states] = large ? [[1, 1], 206_429] : [[1], 73_362]
    const found = await explore(protocol, start(orders, 2, 1, 1), changing)
    if ("wrong" in found) assert.fail(`${found.story} => ${found.wrong}`)
    assert.strictEqual(found.states, states)
  }, 300_000)
})
