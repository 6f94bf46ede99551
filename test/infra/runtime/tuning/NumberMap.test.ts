import { assert, describe, it } from "@effect/vitest"
import { NumberMap } from "../../../../src/infra/runtime/tuning/NumberMap.js"

describe("NumberMap", () => {
  it.each([
    ["Map", new Map<number, string>()],
    ["NumberMap", new NumberMap<string>()]
  ])("behaves as a Map: %s", (_, numbered) => {
    numbered.set(7, "seven").set(2 ** 31 - 1, "last").set(7, "again")
    assert.strictEqual(numbered.size, 2)
    assert.strictEqual(numbered.get(7), "again")
    assert.isUndefined(numbered.get(8))
    assert.deepStrictEqual([...numbered], [[7, "again"], [2 ** 31 - 1, "last"]])
    assert.deepStrictEqual([...numbered.keys()], [7, 2 ** 31 - 1])
    assert.deepStrictEqual([...numbered.values()], ["again", "last"])
    assert.isTrue(numbered.has(7))
    assert.isTrue(numbered.delete(7))
    assert.isFalse(numbered.delete(7))
    assert.isFalse(numbered.has(7))
    assert.strictEqual(numbered.size, 1)
    numbered.set(1, "one").forEach((_, key) => numbered.delete(key))
    assert.strictEqual(numbered.size, 0)
    numbered.set(3, "three").clear()
    assert.strictEqual(numbered.size, 0)
  })
})
