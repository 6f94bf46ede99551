import { assert, it } from "@effect/vitest"
import { Deferred, Duration, Effect, Fiber, Queue } from "effect"
import { randomUUID } from "node:crypto"
import * as KafkaConsumer from "../../../src/infra/kafka/KafkaConsumer.js"
import * as KafkaOffsets from "../../../src/infra/kafka/KafkaOffsets.js"
import * as KafkaProducer from "../../../src/infra/kafka/KafkaProducer.js"
import { eventually } from "../../harness/Eventually.js"
import * as KafkaAnswers from "../../harness/KafkaAnswers.js"
import * as KafkaTest from "../../harness/KafkaTest.js"

/** The answer of a broker to a fetch. */
interface Fetched {
  readonly responses: ReadonlyArray<
    { readonly partitions: ReadonlyArray<{ readonly partition: number; readonly messages: ReadonlyArray<unknown> }> }
  >
}

const consumerOf = (topic: string, groupId: string) => ({
  ...KafkaTest.kafka(),
  groupId,
  topic,
  sessionTimeout: Duration.seconds(10),
  concurrency: 4,
  drainTimeout: "5 seconds" as const
})

it.scopedLive(
  "a failed commit is repeated, also without a further record",
  () =>
    Effect.gen(function*() {
      const topic = yield* KafkaTest.freshTopic()
      const { send } = yield* KafkaProducer.make(KafkaTest.kafka())
      const [written] = yield* send([{ topic, key: "1", value: "1" }], () => true)
      let refused = 0
      yield* KafkaAnswers.between((request, ask) =>
        request === "OffsetCommit" && refused++ === 0
          ? Promise.reject(Object.assign(new Error("no"), { retriable: false }))
          : ask()
      )
      const groupId = `test-${randomUUID()}`
      const consumer = yield* Effect.fork(KafkaConsumer.consume(
        consumerOf(topic, groupId),
        ({ records, resolve }) => Effect.sync(() => resolve(records.at(-1)!.offset))
      ))
      yield* KafkaOffsets.committed(KafkaTest.kafka(), topic, groupId).pipe(
        Effect.tap((offsets) => assert.strictEqual(String(offsets.get(written!.partition)), "1")),
        eventually()
      )
      assert.isAbove(refused, 1)
      yield* Fiber.interrupt(consumer)
    }),
  60_000
)

it.scopedLive(
  "a batch in progress delays only its partition, and no offset moves over it",
  () =>
    Effect.gen(function*() {
      const topic = yield* KafkaTest.freshTopic()
      const { send } = yield* KafkaProducer.make(KafkaTest.kafka())
      const [held] = yield* send([{ topic, key: "1", value: "held" }], () => true)
      const groupId = `test-${randomUUID()}`
      const begun = yield* Deferred.make<void>()
      const release = yield* Deferred.make<void>()
      const handled: Array<string> = []
      yield* KafkaConsumer.consume(
        consumerOf(topic, groupId),
        ({ records, resolve }) =>
          Effect.gen(function*() {
            const values = records.map(({ value }) => String(value))
            handled.push(...values)
            yield* Deferred.succeed(begun, undefined)
            if (values.includes("held")) yield* Deferred.await(release)
            resolve(records.at(-1)!.offset)
          })
      ).pipe(Effect.forkScoped)
      yield* Deferred.await(begun)

      const written = yield* Effect.forEach(["1", "2", "3", "4", "5"], (key) =>
        Effect.map(
          send([{ topic, key, value: `after ${key}` }], () => true),
          ([position]) => ({ key, partition: position!.partition })
        ))
      const elsewhere = written.filter(({ partition }) => partition !== held!.partition)
      assert.isNotEmpty(elsewhere)
      const committed = KafkaOffsets.committed(KafkaTest.kafka(), topic, groupId)
      yield* committed.pipe(
        Effect.tap((offsets) => {
          for (const { partition } of elsewhere) assert.isAbove(offsets.get(partition) ?? 0, 0)
        }),
        eventually()
      )
      assert.isFalse((yield* committed).has(held!.partition))
      assert.notInclude(handled, "after 1")

      // a third batch stays at the broker: the consumer does not fetch it again and again
      let fetched = 0
      yield* KafkaAnswers.between((request, ask) =>
        request !== "Fetch" ? ask() : ask().then((answer) => {
          const partitions = (answer as Fetched).responses.flatMap((_) => _.partitions)
          fetched += partitions.filter(({ messages, partition }) =>
            partition === held!.partition && messages.length > 0
          ).length
          return answer
        })
      )
      yield* send([{ topic, key: "1", value: "third" }], () => true)
      const [last] = yield* send([{ topic, key: elsewhere[0]!.key, value: "" }], () => true)
      yield* committed.pipe(
        Effect.tap((offsets) => assert.isAbove(offsets.get(last!.partition) ?? 0, Number(last!.offset))),
        eventually()
      )
      assert.strictEqual(fetched, 0)

      yield* Deferred.succeed(release, undefined)
      yield* committed.pipe(
        Effect.tap((offsets) => assert.isAbove(offsets.get(held!.partition) ?? 0, 2)),
        eventually()
      )
      assert.includeMembers(handled, ["after 1", "third"])
    }),
  60_000
)

it.scopedLive(
  "a long batch does not delay heartbeats, and a batch whose partition is taken away is interrupted",
  () =>
    Effect.gen(function*() {
      const topic = yield* KafkaTest.freshTopic()
      const { send } = yield* KafkaProducer.make(KafkaTest.kafka())
      // two batches for each partition, so that all of them are paused
      const wave = Array.from({ length: 40 }, (_, i) => ({ topic, key: String(i), value: "" }))
      yield* send(wave, () => true)
      let heard = 0
      let keeps = true
      yield* KafkaAnswers.between((request, ask) => {
        if (request !== "Heartbeat") return ask()
        heard++
        return keeps ? ask() : Promise.reject(KafkaAnswers.errors.unknownMember())
      })
      const begun = yield* Queue.unbounded<number>()
      const left = yield* Queue.unbounded<number>()
      yield* KafkaConsumer.consume(
        { ...consumerOf(topic, `test-${randomUUID()}`), sessionTimeout: Duration.seconds(6) },
        ({ partition }) =>
          Queue.offer(begun, partition).pipe(
            Effect.zipRight(Effect.never),
            Effect.onInterrupt(() => Queue.offer(left, partition))
          )
      ).pipe(Effect.forkScoped)
      yield* Queue.takeN(begun, 4)
      yield* send(wave.map((record) => ({ ...record })), () => true)

      const since = heard
      yield* Effect.sync(() => assert.isAbove(heard, since + 2)).pipe(eventually())
      keeps = false
      assert.sameMembers([...(yield* Queue.takeN(left, 4))], [0, 1, 2, 3])
      keeps = true
      // the consumer joins again, and begins at the first records: nothing is committed
      assert.sameMembers([...(yield* Queue.takeN(begun, 4))], [0, 1, 2, 3])
    }),
  60_000
)

it.scopedLive(
  "the coordinator goes away while a member joins again: the member joins at the next one",
  () =>
    Effect.gen(function*() {
      const topic = yield* KafkaTest.freshTopic()
      const { send } = yield* KafkaProducer.make(KafkaTest.kafka())
      const handled: Array<string> = []
      yield* KafkaConsumer.consume(
        consumerOf(topic, `test-${randomUUID()}`),
        ({ records, resolve }) =>
          Effect.sync(() => {
            handled.push(...records.map(({ value }) => String(value)))
            resolve(records.at(-1)!.offset)
          })
      ).pipe(Effect.forkScoped)
      const arrives = (value: string) =>
        Effect.zipRight(
          send([{ topic, key: value, value }], () => true),
          Effect.sync(() => assert.include(handled, value)).pipe(eventually())
        )
      yield* arrives("before")
      let moved = 0
      let refused = 0
      yield* KafkaAnswers.between((request, ask) => {
        if (request === "Fetch" && moved++ === 0) return Promise.reject(KafkaAnswers.errors.notLeader())
        if (request === "JoinGroup" && refused++ === 0) return Promise.reject(KafkaAnswers.errors.closed())
        return ask()
      })
      yield* Effect.sync(() => assert.isAbove(refused, 0)).pipe(eventually())
      yield* arrives("after")
    }),
  60_000
)
