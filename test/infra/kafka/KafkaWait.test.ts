import { assert, it } from "@effect/vitest"
import * as KafkaWait from "../../../src/infra/kafka/KafkaWait.js"
import * as PartitionProgress from "../../../src/infra/kafka/PartitionProgress.js"

const look = {
  topicId: "",
  partitions: 1,
  leaderless: [],
  ends: new Map([[0, { low: 0n, stable: 5n, high: 5n }]])
}

it("a member that joins again and again without progress says so", () => {
  const wait = KafkaWait.make("payments", 0)
  const found = new Map<number, string | undefined>()
  for (let now = 0; now <= 10_000; now += 100) {
    wait.looked(now, look)
    wait.joined(now, [0], new Map([[0, { progress: PartitionProgress.assigned(0n, 0n, now) }]]))
    wait.left(now)
    found.set(now, wait.standing(now)?.why)
  }
  assert.isUndefined(found.get(7_000))
  assert.match(found.get(7_100) ?? "", /^partition 0: 5 records behind/)
  assert.match(found.get(10_000) ?? "", /^partition 0: 5 records behind/)
})

it("fetches that are answered without records are told from those without an answer", () => {
  const standing = (fetchedAt: number) => {
    const wait = KafkaWait.make("payments", 0)
    wait.joined(0, [0], new Map([[0, { progress: PartitionProgress.assigned(0n, 0n, 0) }]]))
    wait.standing(0)
    wait.looked(10_000, look)
    wait.fetched(fetchedAt)
    return wait.standing(10_000)?.why
  }
  assert.strictEqual(
    standing(1_000),
    "partition 0: 5 records behind, no fetch was answered since 1970-01-01T00:00:01.000Z"
  )
  assert.strictEqual(
    standing(9_000),
    "partition 0: 5 records behind, fetches are answered without them: has the leader moved, or does a quota (request_percentage) throttle this client?"
  )
})
