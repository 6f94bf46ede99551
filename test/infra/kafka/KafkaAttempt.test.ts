import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Attempt } from "../../../src/infra/kafka/KafkaAttempt.js"
import { patch } from "../../../src/infra/kafka/patches/ProduceRequests.js"
import { copy } from "../../harness/StockKafkajs.js"
import * as TwoBrokers from "./patches/TwoBrokers.js"

const { records } = TwoBrokers

const patched = (adding?: (partition: number) => Promise<unknown>, leaders?: ReadonlyArray<number>) => {
  const load = copy()
  patch.install(load)
  return TwoBrokers.make(load, adding, leaders)
}

const failureOf = (sent: Promise<unknown>) => sent.then(() => undefined, ({ message }: Error) => message)

describe("an attempt", () => {
  it("asks before the first request only, and reports what each partition has written", async () => {
    const { requests, send } = await patched()
    const asked: Array<number> = []
    const attempt = new Attempt(records[0]!, () => asked.push(requests.flat().length) > 0)
    await send(attempt, 0)
    // when kafkajs begins, and right before the first request
    assert.deepStrictEqual(asked, [0, 0])
    assert.strictEqual(attempt.state, "sent")
    const { failure, written } = await Effect.runPromise(attempt.result)
    assert.isUndefined(failure)
    assert.deepStrictEqual(
      written.map(({ offset, partition, records }) => [partition, offset, records[0]!.value]),
      [[0, "7", "to 0"], [1, "7", "to 1"]]
    )
  })

  it("sends nothing after mayStart has said no, also when it says so right before the first request", async () => {
    for (const yes of [0, 1]) {
      const { requests, send } = await patched()
      let asked = 0
      const attempt = new Attempt(records[0]!, () => asked++ < yes)
      assert.strictEqual(await failureOf(send(attempt, 0)), "sending was stopped")
      assert.strictEqual(attempt.state, "stopped")
      assert.deepStrictEqual(requests, [[], []])
      assert.deepStrictEqual(await Effect.runPromise(attempt.result), { written: [], failure: undefined })
    }
  })

  it("a broker fails: kafkajs does not begin again, and the answers of all brokers are known", async () => {
    const { requests, send } = await patched()
    const attempt = new Attempt(records[0]!, () => true)
    assert.strictEqual(await failureOf(send(attempt, 1)), "a broker did not write its records")
    const { failure, written } = await Effect.runPromise(attempt.result)
    assert.include(failure?.message, "NOT_LEADER_FOR_PARTITION")
    assert.deepStrictEqual(written.map(({ partition }) => partition), [1])
    assert.deepStrictEqual(requests, [["0: to 0"], ["0: to 1"]])

    // the next attempt sends the rest under the same sequence number
    await send(new Attempt(records[0]!, () => true), 0)
    assert.strictEqual(requests[0]![1], "0: to 0")
  })

  it("a request that waits while kafkajs begins again: no partition is sent twice", async () => {
    const asked = [0, 0]
    let begun: () => void = () => {}
    const again = new Promise<void>((resolve) => (begun = resolve))
    const { requests, send } = await patched(async (partition) => {
      asked[partition]! += 1
      // the coordinator answers neither; then it answers the older request for partition 1
      if (partition === 0 && asked[0] === 1) throw Object.assign(new Error("timed out"), { retriable: true })
      if (partition === 0) begun()
      else if (asked[1] === 1) await again
    })
    const attempt = new Attempt(records[0]!, () => true)
    assert.strictEqual(await failureOf(send(attempt, 0)), "these records have left already")
    const { failure, written } = await Effect.runPromise(attempt.result)
    assert.isUndefined(failure)
    assert.sameMembers(written.map(({ partition }) => partition), [0, 1])
    assert.deepStrictEqual(requests, [["0: to 0"], ["0: to 1"]])
  })

  it("a partition has no leader, also by new metadata: nothing is sent, and the records of the others are known", async () => {
    const leaders = [0, -1]
    const { requests, send } = await patched(undefined, leaders)
    const attempt = new Attempt(records[0]!, () => true)
    assert.strictEqual(await failureOf(send(attempt, 0)), "partition 1 of topic payment has no leader")
    assert.deepStrictEqual(requests, [[], []])
    assert.strictEqual(attempt.state, "waiting")
    assert.deepStrictEqual([...attempt.unled.keys()], [records[1]])

    leaders[1] = 1
    const next = new Attempt(records[0]!, () => true)
    await send(next, 0)
    assert.deepStrictEqual(requests, [["0: to 0"], ["0: to 1"]])
    assert.deepStrictEqual([...next.unled], [])
  })

  it("a request that waits until the attempt is over never leaves", async () => {
    let added: () => void = () => {}
    const late = new Promise<void>((resolve) => (added = resolve))
    const { requests, send } = await patched((partition) =>
      partition === 0 ? Promise.reject(Object.assign(new Error("denied"), { retriable: false })) : late
    )
    const attempt = new Attempt(records[0]!, () => true)
    assert.strictEqual(await failureOf(send(attempt, 0)), "denied")
    assert.deepStrictEqual(await Effect.runPromise(attempt.result), { written: [], failure: undefined })
    added()
    await new Promise((resolve) => setImmediate(resolve))
    assert.deepStrictEqual(requests, [[], []])
  })
})
