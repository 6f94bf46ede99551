import { assert, it } from "@effect/vitest"
import { Effect, Metric, MetricState } from "effect"
import { randomUUID } from "node:crypto"
import * as KafkaGroupOffsets from "../../src/infra/kafka/KafkaGroupOffsets.js"
import { make as makeHealth } from "../../src/infra/runtime/Health.js"
import * as Lag from "../../src/inventory/Lag.js"
import { eventually } from "../harness/Eventually.js"
import * as KafkaAnswers from "../harness/KafkaAnswers.js"
import * as KafkaTest from "../harness/KafkaTest.js"
import * as Topics from "../harness/Topics.js"

/** The lag by partition, as the metrics have it. */
const lags = Effect.map(
  Metric.snapshot,
  (pairs) =>
    Object.fromEntries(
      pairs.flatMap(({ metricKey, metricState }) =>
        metricKey.name === "payments_consumer_lag_records" && MetricState.isGaugeState(metricState)
          ? Array.from(metricKey.tags, ({ value }) => [value, Number(metricState.value)] as const)
          : []
      )
    )
)

it.scopedLive("the lag is that of the group, also without any consumer, and is unknown when the topic is gone", () =>
  Effect.gen(function*() {
    const kafka = KafkaTest.kafka()
    const topic = yield* KafkaTest.freshTopic()
    const groupId = `test-${randomUUID()}`
    const topics = yield* Topics.make(kafka.brokers[0]!)
    const health = yield* makeHealth({ parts: { "consumer-lag": { roles: [] } } })
    const shown = Effect.map(health.current(), ({ dependencies }) => dependencies["consumer-lag"]!)
    const measure = yield* Lag.make({ ...kafka, topic, groupId, part: health.part("consumer-lag") })
    yield* topics.writeAll(topic, 0, Array.from({ length: 5 }, () => ({ value: "x" })))
    yield* topics.writeAll(topic, 1, [{ value: "x" }])
    const until = (state: string) =>
      Effect.zipRight(measure, shown).pipe(
        Effect.tap((now) => assert.strictEqual(now.state, state, now.reason)),
        eventually("10 seconds")
      )
    // a new broker has no coordinator of the group yet
    yield* until("working")
    assert.deepStrictEqual(yield* lags, { 0: 5, 1: 1, 2: 0, 3: 0 })
    yield* KafkaGroupOffsets.set(kafka, groupId, topic, [{ partition: 0, offset: "2" }])
    yield* measure
    assert.deepStrictEqual(yield* lags, { 0: 3, 1: 1, 2: 0, 3: 0 })
    yield* topics.remove(topic)
    yield* until("waiting")
    assert.deepStrictEqual(Object.values(yield* lags), [NaN, NaN, NaN, NaN])
    assert.strictEqual((yield* shown).waiting_for, "topic")
  }))

it.scopedLive("what the group commits during a measurement is not taken for another topic", () =>
  Effect.gen(function*() {
    const kafka = KafkaTest.kafka()
    const topic = yield* KafkaTest.freshTopic()
    const groupId = `test-${randomUUID()}`
    const topics = yield* Topics.make(kafka.brokers[0]!)
    yield* topics.writeAll(topic, 0, Array.from({ length: 5 }, () => ({ value: "x" })))
    yield* KafkaGroupOffsets.set(kafka, groupId, topic, [{ partition: 0, offset: "5" }])
    const positions = yield* Lag.positions({ ...kafka, topic, groupId })
    yield* positions
    const another = Effect.zipRight(
      topics.writeAll(topic, 0, [{ value: "x" }]),
      KafkaGroupOffsets.set(kafka, groupId, topic, [{ partition: 0, offset: "6" }])
    )
    let committed = false
    yield* KafkaAnswers.between(async (request, ask) => {
      if (request === "OffsetFetch" && !committed) {
        committed = true
        await Effect.runPromise(another)
      }
      return ask()
    })
    const { at, end } = (yield* positions).get(0)!
    assert.isTrue(committed)
    assert.deepStrictEqual([at, end], [6n, 6n])
  }))
