import { assert, it } from "@effect/vitest"
import { Chunk, Effect } from "effect"
import { inject } from "vitest"
import * as KafkaTail from "../../../src/infra/kafka/KafkaTail.js"
import * as KafkaAnswers from "../../harness/KafkaAnswers.js"
import { freshTopic, kafka } from "../../harness/KafkaTest.js"
import * as Topics from "../../harness/Topics.js"

it.scopedLive("waits for the group of a broker that has just started", () =>
  Effect.gen(function*() {
    const topic = yield* freshTopic()
    const topics = yield* Topics.make(inject("kafkaBrokers"))
    yield* topics.writeAll(topic, 0, [{ value: "before" }])
    let refused = 0
    yield* KafkaAnswers.between((request, ask) =>
      request === "JoinGroup" && ++refused <= 8 ? Promise.reject(KafkaAnswers.errors.groupLoading()) : ask()
    )
    const records = yield* KafkaTail.open({ ...kafka(), topic, from: "end" })
    yield* topics.writeAll(topic, 0, [{ value: "after" }])
    const [taken] = yield* records.takeAll
    assert.deepStrictEqual(Chunk.toReadonlyArray(taken).map(({ value }) => value?.toString()), ["after"])
    assert.isAbove(refused, 8)
  }), 60_000)
