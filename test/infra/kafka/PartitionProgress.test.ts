import { assert, describe, it } from "@effect/vitest"
import * as PartitionProgress from "../../../src/infra/kafka/PartitionProgress.js"

const batch = (first: number, last: number) => ({ last: BigInt(last), end: BigInt(last) + 1n, content: first })

const begun = PartitionProgress.given(PartitionProgress.assigned<number>(0n, 0n, 0), batch(0, 9), 1)

describe("PartitionProgress", () => {
  it("the end of a batch moves the offset, also when another batch waits", () => {
    const waiting = PartitionProgress.given(begun, batch(10, 19), 2)
    assert.isFalse(PartitionProgress.hasRoom(waiting))
    const resolved = PartitionProgress.resolved(waiting, 9n, 3)
    assert.strictEqual(PartitionProgress.uncommitted(resolved), 10n)
    const next = PartitionProgress.ended(resolved, true, 4)
    assert.strictEqual(PartitionProgress.uncommitted(next), 10n)
    assert.strictEqual(next.inHand?.content, 10)
    assert.isTrue(PartitionProgress.hasRoom(next))
  })

  it("the offset moves only over resolved records, and never back", () => {
    assert.isUndefined(PartitionProgress.uncommitted(begun))
    const some = PartitionProgress.resolved(begun, 4n, 2)
    assert.strictEqual(PartitionProgress.uncommitted(some), 5n)
    for (const offset of [2n, 4n, 10n]) {
      assert.strictEqual(PartitionProgress.resolved(some, offset, 3).done, 5n, `${offset}`)
    }
    assert.isUndefined(PartitionProgress.uncommitted(PartitionProgress.committed(some, 5n)))
    assert.strictEqual(PartitionProgress.behind(some), 5n)
  })

  it("control records behind a batch are done with the batch, and at once when no batch is in progress", () => {
    const passed = PartitionProgress.passed(begun, 12n, 2)
    assert.strictEqual(passed.done, 0n)
    assert.strictEqual(PartitionProgress.resolved(passed, 9n, 3).done, 12n)
    const resolved = PartitionProgress.resolved(begun, 9n, 2)
    assert.strictEqual(PartitionProgress.passed(resolved, 12n, 3).done, 12n)
    assert.strictEqual(PartitionProgress.passed(PartitionProgress.ended(resolved, true, 3), 12n, 4).done, 12n)
    const waiting = PartitionProgress.passed(PartitionProgress.given(begun, batch(10, 19), 2), 22n, 3)
    assert.strictEqual(waiting.waiting?.end, 22n)
  })

  for (const [what, succeeded, offset] of [["fails", false, 9n], ["ends with records left", true, 4n]] as const) {
    it(`after work that ${what} no batch begins, and the offset may be committed`, () => {
      const waiting = PartitionProgress.given(begun, batch(10, 19), 2)
      const left = PartitionProgress.ended(PartitionProgress.resolved(waiting, offset, 3), succeeded, 4)
      assert.isTrue(left.left)
      assert.isUndefined(left.inHand)
      assert.isFalse(PartitionProgress.hasRoom(left))
      assert.strictEqual(PartitionProgress.uncommitted(left), offset + 1n)
      assert.strictEqual(PartitionProgress.passed(left, 30n, 5).done, offset + 1n)
    })
  }

  it("after the partition is taken away its batch may be resolved, and the waiting batch does not begin", () => {
    const taken = PartitionProgress.taken(PartitionProgress.given(begun, batch(10, 19), 2))
    const resolved = PartitionProgress.resolved(taken, 9n, 3)
    assert.strictEqual(PartitionProgress.uncommitted(resolved), 10n)
    assert.isUndefined(PartitionProgress.ended(resolved, true, 4).inHand)
  })
})
