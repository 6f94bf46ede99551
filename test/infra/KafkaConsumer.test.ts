import { assert, it } from "@effect/vitest"
import { Duration, Effect, Fiber } from "effect"
import { randomUUID } from "node:crypto"
import * as KafkaConsumer from "../../src/infra/KafkaConsumer.js"
import * as KafkaOffsets from "../../src/infra/KafkaOffsets.js"
import * as KafkaProducer from "../../src/infra/KafkaProducer.js"
import { eventually } from "../e2e/Eventually.js"
import * as KafkaAnswers from "../utils/KafkaAnswers.js"
import * as KafkaTest from "../utils/KafkaTest.js"

it.scopedLive(
  "an offset that was not committed is committed later, also when no further record comes",
  () =>
    Effect.gen(function*() {
      const topic = yield* KafkaTest.freshTopic()
      const { send } = yield* KafkaProducer.make(KafkaTest.kafka())
      const [placed] = yield* send([{ topic, key: "1", value: "1" }], () => true)
      let refused = 0
      yield* KafkaAnswers.between((request, ask) =>
        request === "OffsetCommit" && refused++ === 0
          ? Promise.reject(Object.assign(new Error("no"), { retriable: false }))
          : ask()
      )
      const groupId = `test-${randomUUID()}`
      const consumer = yield* Effect.fork(KafkaConsumer.consume(
        {
          ...KafkaTest.kafka(),
          groupId,
          topic,
          sessionTimeout: Duration.seconds(10),
          concurrency: 1,
          drainTimeout: "5 seconds"
        },
        ({ records, resolve }) => Effect.sync(() => resolve(records.at(-1)!.offset))
      ))
      yield* KafkaOffsets.committed(KafkaTest.kafka(), topic, groupId).pipe(
        Effect.tap((offsets) => assert.strictEqual(String(offsets.get(placed!.partition)), "1")),
        eventually()
      )
      assert.isAbove(refused, 1)
      yield* Fiber.interrupt(consumer)
    }),
  60_000
)
