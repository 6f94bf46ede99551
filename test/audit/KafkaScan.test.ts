import { assert, it } from "@effect/vitest"
import { Effect, Exit } from "effect"
import { inject } from "vitest"
import { KafkaUnavailable } from "../../src/infra/kafka/KafkaClient.js"
import * as KafkaOffsets from "../../src/infra/kafka/KafkaOffsets.js"
import * as KafkaScan from "../../src/infra/kafka/KafkaScan.js"
import * as Ports from "../../src/local/Ports.js"
import * as KafkaAnswers from "../harness/KafkaAnswers.js"
import { freshTopic, kafka } from "../harness/KafkaTest.js"
import * as Topics from "../harness/Topics.js"
import * as Client from "./Client.js"

/** The records of a scan, as `partition/offset`. */
const scanned = Effect.fnUntraced(function*(topic: string, spans: ReadonlyArray<KafkaOffsets.Span>) {
  const seen: Array<string> = []
  yield* KafkaScan.scan(
    kafka(),
    topic,
    spans,
    (partition, records) => Effect.sync(() => seen.push(...records.map(({ offset }) => `${partition}/${offset}`)))
  )
  return seen
})

const records = (count: number) => Array.from({ length: count }, (_, i) => ({ value: `value ${i}` }))
const places = (partition: number, from: number, to: number) =>
  Array.from({ length: to - from }, (_, i) => `${partition}/${from + i}`)

it.scopedLive(
  "reads up to the requested end, whatever follows, and leaves no group",
  () =>
    Effect.gen(function*() {
      const topic = yield* freshTopic()
      const topics = yield* Topics.make(inject("kafkaBrokers"))
      assert.deepStrictEqual(yield* scanned(topic, yield* KafkaOffsets.spans(kafka(), topic, undefined)), [])
      yield* topics.writeAll(topic, 0, records(3_000))
      yield* topics.writeAll(topic, 2, records(5))
      const spans = yield* KafkaOffsets.spans(kafka(), topic, undefined)
      assert.deepStrictEqual(spans.map(({ end, partition, start }) => [partition, start, end]).sort(), [
        [0, 0, 3_000],
        [1, 0, 0],
        [2, 0, 5],
        [3, 0, 0]
      ])
      yield* topics.writeAll(topic, 0, records(10))
      yield* topics.writeAll(topic, 1, records(10))
      assert.sameMembers(yield* scanned(topic, spans), [...places(0, 0, 3_000), ...places(2, 0, 5)])
      const middle = [{ partition: 0, start: 2_990, end: 3_003, whole: false }]
      assert.deepStrictEqual(yield* scanned(topic, middle), places(0, 2_990, 3_003))
      const groups = yield* Client.groups(inject("kafkaBrokers"))
      assert.isEmpty(groups.filter((group) => group.startsWith(`payments-reader-scan-${topic}-`)))
    }),
  60_000
)

it.scopedLive(
  "control records at the end, aborted records, trimmed and missing offsets do not block it",
  () =>
    Effect.gen(function*() {
      const topic = yield* freshTopic()
      const brokers = inject("kafkaBrokers")
      const topics = yield* Topics.make(brokers)
      yield* topics.writeAll(topic, 0, records(4))
      yield* Client.transaction(brokers, topic, [{ partition: 0, value: "a" }, { partition: 1, value: "b" }], "commit")
      yield* Client.transaction(brokers, topic, [{ partition: 1, value: "c" }, { partition: 2, value: "d" }], "abort")
      yield* Client.trim(brokers, topic, 0, 2)
      const spans = yield* KafkaOffsets.spans(kafka(), topic, undefined)
      assert.isFalse(spans.find(({ partition }) => partition === 0)!.whole)
      assert.sameMembers(yield* scanned(topic, spans), [...places(0, 2, 5), "1/0"])
      // compaction removed the last records: they never arrive
      const beyond = spans.map((span) => ({ ...span, end: span.end + 3 }))
      assert.sameMembers(yield* scanned(topic, beyond), [...places(0, 2, 5), "1/0"])
      // trimmed meanwhile: reads the rest
      yield* Client.trim(brokers, topic, 0, 4)
      assert.sameMembers(yield* scanned(topic, spans), ["0/4", "1/0"])
    }),
  60_000
)

it.scopedLive(
  "a failure of the handler ends the scan; unavailable brokers and missing topics are errors",
  () =>
    Effect.gen(function*() {
      const topic = yield* freshTopic()
      const topics = yield* Topics.make(inject("kafkaBrokers"))
      yield* topics.writeAll(topic, 3, records(10))
      const spans = yield* KafkaOffsets.spans(kafka(), topic, undefined)
      const failed = yield* Effect.exit(KafkaScan.scan(kafka(), topic, spans, () => Effect.fail("enough" as const)))
      assert.deepStrictEqual(failed, Exit.fail("enough" as const))
      const nowhere = { ...kafka(), brokers: [`127.0.0.1:${yield* Effect.scoped(Ports.free)}`] }
      const away = yield* Effect.flip(KafkaScan.scan(nowhere, topic, spans, () => Effect.void))
      assert.strictEqual(away._tag, "KafkaUnavailable")
      const missing = yield* Effect.flip(KafkaOffsets.spans(kafka(), "never-made", undefined))
      assert.strictEqual(missing._tag, "TopicMissing")
      assert.notInclude(yield* topics.existing, "never-made")
    }),
  60_000
)

it.scopedLive("a topic that this user may not see is not called missing: the broker lists neither", () =>
  Effect.gen(function*() {
    // the answer about one topic has its id; the list of topics has none
    yield* KafkaAnswers.between((_, ask) =>
      ask().then((answer) => {
        if (typeof answer === "object" && answer !== null && "topicId" in answer) {
          throw KafkaAnswers.errors.topicAuthorizationFailed()
        }
        return answer
      })
    )
    const denied = yield* Effect.flip(KafkaOffsets.spans(kafka(), "never-seen", undefined))
    assert.strictEqual(denied._tag, "KafkaUnavailable")
    assert.match(denied.message, /this user may not see topic never-seen: grant it READ or WRITE on the topic/)
  }))

it.live("a moving coordinator or leader is retried, any other error fails at once", () =>
  Effect.gen(function*() {
    let asked = 0
    const answer = (type: string, until: number) =>
      KafkaOffsets.untilSettled(
        Effect.suspend(() =>
          ++asked < until
            ? new KafkaUnavailable({ cause: Object.assign(new Error(type), { type }) })
            : Effect.succeed(asked)
        )
      )
    assert.strictEqual(yield* answer("GROUP_LOAD_IN_PROGRESS", 3), 3)
    assert.strictEqual(yield* answer("NOT_LEADER_FOR_PARTITION", 6), 6)
    const refused = yield* Effect.flip(answer("GROUP_AUTHORIZATION_FAILED", 100))
    assert.strictEqual(refused._tag, "KafkaUnavailable")
    assert.strictEqual(asked, 7)
  }))
