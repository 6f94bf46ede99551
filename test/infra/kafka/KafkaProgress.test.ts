import { assert, describe, it } from "@effect/vitest"
import { Cause, Deferred, Duration, Effect, Exit, Fiber, Queue } from "effect"
import { Kafka as Client, logLevel } from "kafkajs"
import { randomUUID } from "node:crypto"
import * as Kafka from "../../../src/infra/kafka/KafkaClient.js"
import * as KafkaConsumer from "../../../src/infra/kafka/KafkaConsumer.js"
import * as KafkaOffsets from "../../../src/infra/kafka/KafkaOffsets.js"
import type { Skip } from "../../../src/infra/kafka/KafkaPositions.js"
import * as KafkaTopic from "../../../src/infra/kafka/KafkaTopic.js"
import type { Named } from "../../../src/infra/kafka/KafkaTopicName.js"
import type { Problem } from "../../../src/infra/runtime/Problem.js"
import { eventually } from "../../harness/Eventually.js"
import * as KafkaAnswers from "../../harness/KafkaAnswers.js"
import * as KafkaTest from "../../harness/KafkaTest.js"
import * as Topics from "../../harness/Topics.js"

/** The answer of a broker to a request for the offsets of a group. */
interface Offsets {
  readonly responses: ReadonlyArray<
    { readonly topic: string; readonly partitions: ReadonlyArray<{ metadata: string | undefined }> }
  >
}

/** A topic and a group, and consumers of them that keep their records and their reports. */
const make = Effect.gen(function*() {
  const kafka = KafkaTest.kafka()
  const topic = yield* KafkaTest.freshTopic()
  const groupId = `test-${randomUUID()}`
  const topics = yield* Topics.make(kafka.brokers[0]!)
  const values: Array<string> = []
  const skips: Array<Skip> = []
  /** Null before the first report. */
  let reported: Problem | undefined | null = null
  const asked = yield* KafkaTopic.make(kafka, topic, groupId)

  const consume = <E, R>(
    handle: (batch: KafkaConsumer.Batch) => Effect.Effect<void, E, R>,
    report = (now: Problem | undefined): Effect.Effect<void> => Effect.sync(() => void (reported = now))
  ) =>
    KafkaConsumer.consume(
      {
        ...kafka,
        groupId,
        topic,
        sessionTimeout: Duration.seconds(10),
        concurrency: 4,
        drainTimeout: "2 seconds",
        onSkip: (skip) => Effect.sync(() => void skips.push(skip)),
        onStanding: report
      },
      handle
    )
  const take = ({ records, resolve }: KafkaConsumer.Batch) =>
    Effect.sync(() => {
      values.push(...records.map(({ value }) => String(value)))
      resolve(records.at(-1)!.offset)
    })
  const write = (partition: number, count: number, value: (i: number) => string = String) =>
    topics.writeAll(topic, partition, Array.from({ length: count }, (_, i) => ({ value: value(i) })))
  const committed = KafkaOffsets.committed(kafka, topic, groupId)
  const untilCommitted = (partition: number, offset: number) =>
    Effect.tap(committed, (offsets) => assert.strictEqual(offsets.get(partition), offset)).pipe(eventually())
  const deleteBefore = (partition: number, offset: number) =>
    Kafka.withAdmin(
      kafka,
      (admin) =>
        // the first request finds the leaders
        Effect.zipRight(
          Kafka.attempt(() => admin.fetchTopicOffsets(topic)),
          Kafka.attempt(() => admin.deleteTopicRecords({ topic, partitions: [{ partition, offset: String(offset) }] }))
        )
    )
  const untilReported = (holds: (problem: Problem | undefined) => boolean) =>
    Effect.sync(() => assert.isTrue(reported !== null && holds(reported), JSON.stringify(reported))).pipe(eventually())
  return {
    kafka,
    topic,
    groupId,
    topics,
    values,
    skips,
    consume,
    take,
    write,
    committed,
    untilCommitted,
    deleteBefore,
    untilReported,
    state: asked.look,
    noted: Effect.map(asked.committed([0, 1, 2, 3]), (all) => Number(all.get(0)?.note.skipped ?? 0))
  } as const
})

it.scopedLive("handlers are always busy: the committed offset follows within seconds", () =>
  Effect.gen(function*() {
    const { consume, groupId, kafka, topic, topics } = yield* make
    const clock = yield* Effect.clock
    const partitions = [0, 1, 2, 3]
    // more than the handlers do in the time of the test
    const backlog = 5_000
    yield* Effect.forEach(
      partitions,
      (partition) => topics.writeAll(topic, partition, Array.from({ length: backlog }, () => ({ value: "x" }))),
      { concurrency: "unbounded" }
    )
    // by partition: the offsets that were done, and when
    const done = new Map<number, Array<readonly [offset: number, at: number]>>()
    yield* consume(({ partition, records, resolve }) =>
      Effect.gen(function*() {
        for (let i = 0; i < records.length; i += 25) {
          const last = records[Math.min(i + 24, records.length - 1)]!
          yield* Effect.sleep("20 millis")
          resolve(last.offset)
          const log = done.get(partition) ?? []
          done.set(partition, log)
          log.push([Number(last.offset) + 1, clock.unsafeCurrentTimeMillis()])
        }
      })
    ).pipe(Effect.forkScoped)
    yield* Effect.sync(() => assert.strictEqual(done.size, 4)).pipe(eventually())

    const admin = yield* Effect.acquireRelease(
      Effect.promise(async () => {
        const admin = new Client({ brokers: [...kafka.brokers], logLevel: logLevel.NOTHING }).admin()
        await admin.connect()
        return admin
      }),
      (admin) => Effect.promise(() => admin.disconnect())
    )
    let worst = 0
    const end = clock.unsafeCurrentTimeMillis() + 4_000
    while (clock.unsafeCurrentTimeMillis() < end) {
      const at = clock.unsafeCurrentTimeMillis()
      const [offsets] = yield* Effect.promise(() => admin.fetchOffsets({ groupId, topics: [topic] }))
      for (const { offset, partition } of offsets!.partitions) {
        const first = done.get(partition)?.find(([after]) => after > Number(offset))
        if (first !== undefined) worst = Math.max(worst, at - first[1])
      }
    }
    const counts = [...done.values()].map((log) => log.at(-1)![0])
    assert.isBelow(worst, 2_500, `${counts.join()} records, the oldest was done and not committed for ${worst} ms`)
    for (const count of counts) assert.isTrue(count > 500 && count < backlog, `${count}`)
  }), 60_000)

// apart from the others: it changes responses for all clients of the process
it.scopedLive(
  "a skip is reported once, also when the group rebalances before its offset is committed",
  () =>
    Effect.gen(function*() {
      const { consume, deleteBefore, skips, take, untilCommitted, write } = yield* make
      yield* write(0, 4)
      const first = yield* Effect.fork(consume(take))
      yield* untilCommitted(0, 4)
      yield* Fiber.interrupt(first)
      yield* write(0, 4)
      yield* deleteBefore(0, 8)
      let [rebalancing, rejoined] = [false, false]
      yield* KafkaAnswers.between(async (request, ask) => {
        if (skips.length === 0 || rejoined) return ask()
        if (request === "OffsetCommit") throw KafkaAnswers.errors.notLeader()
        if (request === "Heartbeat" && !rebalancing) {
          rebalancing = true
          throw KafkaAnswers.errors.rebalanceInProgress()
        }
        const answer = await ask()
        rejoined = rebalancing && request === "OffsetFetch"
        return answer
      })
      yield* Effect.fork(consume(take))
      yield* untilCommitted(0, 8)
      assert.isTrue(rejoined)
      assert.deepStrictEqual(skips, [{ partition: 0, cause: "expired", from: 4n, to: 8n, records: 4n }])
    }),
  60_000
)

describe.concurrent("KafkaProgress", () => {
  it.scopedLive("a partition that is busy for long delays no other, and loses nothing", () =>
    Effect.gen(function*() {
      const { consume, untilCommitted, values, write } = yield* make
      const busy = yield* Deferred.make<void>()
      const release = yield* Deferred.make<void>()
      yield* consume(({ partition, records, resolve }) =>
        Effect.gen(function*() {
          if (partition === 0) {
            yield* Deferred.succeed(busy, undefined)
            yield* Deferred.await(release)
            values.push(...records.map(({ value }) => String(value)))
          }
          resolve(records.at(-1)!.offset)
        })
      ).pipe(Effect.forkScoped)
      yield* write(0, 1, () => "0")
      yield* Deferred.await(busy)
      // each is fetched after a batch of the busy partition
      for (const round of [1, 2, 3]) {
        yield* write(0, 1, () => String(round))
        yield* write(1, 1)
        yield* untilCommitted(1, round)
      }
      yield* Deferred.succeed(release, undefined)
      yield* untilCommitted(0, 4)
      assert.deepStrictEqual(values, ["0", "1", "2", "3"])
    }), 60_000)

  it.scopedLive("a defect in the report of its state ends the consumer", () =>
    Effect.gen(function*() {
      const { consume } = yield* make
      const exit = yield* consume(() => Effect.void, () => Effect.dieMessage("a bug")).pipe(
        Effect.exit,
        Effect.timeout("20 seconds")
      )
      assert.isTrue(Exit.isFailure(exit) && Cause.isDie(exit.cause))
    }), 60_000)

  it.scopedLive("after a defect of the handler no batch begins", () =>
    Effect.gen(function*() {
      const { committed, consume, write } = yield* make
      const begun = yield* Queue.unbounded<string>()
      const fail = yield* Deferred.make<void>()
      const consumer = yield* consume(({ records }) =>
        Effect.gen(function*() {
          yield* Queue.offer(begun, String(records[0]!.value))
          yield* Deferred.await(fail)
          return yield* Effect.dieMessage("a bug")
        })
      ).pipe(Effect.exit, Effect.fork)
      yield* write(0, 1, () => "first")
      assert.strictEqual(yield* Queue.take(begun), "first")
      yield* write(0, 1, () => "second")
      yield* write(1, 1, () => "other partition")
      assert.strictEqual(yield* Queue.take(begun), "other partition")
      yield* Deferred.succeed(fail, undefined)
      yield* Fiber.join(consumer)
      assert.strictEqual(yield* Queue.size(begun), 0)
      assert.strictEqual((yield* committed).size, 0)
    }), 60_000)

  it.scopedLive(
    "records that expired before they were read are skipped and reported by partition and count",
    () =>
      Effect.gen(function*() {
        const { consume, deleteBefore, noted, skips, take, untilCommitted, values, write } = yield* make
        yield* write(0, 10)
        const first = yield* Effect.fork(consume(take))
        yield* untilCommitted(0, 10)
        yield* Fiber.interrupt(first)
        yield* write(0, 60)
        // deletes all 60
        yield* deleteBefore(0, 70)
        const second = yield* Effect.fork(consume(take))
        yield* untilCommitted(0, 70)
        assert.deepStrictEqual(skips, [{ partition: 0, cause: "expired", from: 10n, to: 70n, records: 60n }])
        yield* write(0, 1, () => "after")
        yield* untilCommitted(0, 71)
        assert.deepStrictEqual(values.slice(10), ["after"])

        // the same while the consumer runs: the next records to fetch expire
        yield* Fiber.interrupt(second)
        const release = yield* Deferred.make<void>()
        const held = yield* Deferred.make<void>()
        yield* consume((batch) =>
          Effect.zipRight(
            values.length > 11
              ? Effect.void
              : Effect.zipRight(Deferred.succeed(held, undefined), Deferred.await(release)),
            take(batch)
          )
        ).pipe(Effect.forkScoped)
        yield* write(0, 1, () => "held")
        yield* Deferred.await(held)
        yield* write(0, 1, () => "waits")
        // more than one fetch takes, so that some are still to be fetched
        yield* Effect.repeatN(write(0, 5, () => "gone".repeat(32 * 1024)), 3)
        yield* deleteBefore(0, 93)
        yield* write(0, 1, () => "last")
        yield* Deferred.succeed(release, undefined)
        yield* untilCommitted(0, 94)
        assert.include(values, "last")
        assert.isAbove(yield* noted, 60)
      }),
    60_000
  )

  it.scopedLive(
    "a topic that was deleted and recreated is read from its beginning, also when it is longer than the old one",
    () =>
      Effect.gen(function*() {
        const { consume, noted, skips, state, take, topic, topics, untilCommitted, untilReported, values, write } =
          yield* make
        yield* write(0, 5, (i) => `record ${i}`)
        const first = yield* Effect.fork(consume(take))
        yield* untilCommitted(0, 5)
        yield* Fiber.interrupt(first)
        // as if the broker had kept the offsets of the deleted topic
        yield* KafkaAnswers.between((request, ask) =>
          request !== "OffsetFetch" ? ask() : ask().then((answer) => {
            for (const { partitions } of (answer as Offsets).responses.filter((_) => _.topic === topic)) {
              for (const partition of partitions) {
                partition.metadata = partition.metadata?.replace(/topic=\w+ skipped=0/, "topic=another skipped=7")
              }
            }
            return answer
          })
        ).pipe(
          Effect.zipRight(write(0, 3, (i) => `record ${5 + i}`)),
          Effect.zipRight(Effect.fork(consume(take))),
          Effect.tap(() => untilCommitted(0, 8)),
          Effect.flatMap(Fiber.interrupt),
          Effect.scoped
        )
        assert.lengthOf(values, 5 + 8)
        assert.deepStrictEqual(skips, [{ partition: 0, cause: "recreated", from: 5n, to: 0n, records: undefined }])
        assert.strictEqual(yield* noted, 7)
        yield* Effect.fork(consume(take))

        // while the consumer runs
        yield* topics.remove(topic)
        yield* untilReported((problem) =>
          problem?.reason === "topic" && problem.why.includes(`topic ${topic} does not exist`)
        )
        yield* topics.create(topic)
        yield* write(0, 9, (i) => `third ${i}`)
        yield* Effect.sync(() => assert.includeMembers(values, ["third 0", "third 8"])).pipe(eventually())
        yield* untilReported((problem) => problem === undefined)

        // as if it was recreated between two requests
        const { topicId } = yield* state
        yield* KafkaAnswers.between((request, ask) =>
          request !== "Metadata"
            ? ask()
            : ask().then((answer) =>
              (answer as Named).topicId === topicId ? { ...answer as Named, topicId: "new" } : answer
            )
        )
        const recreated = skips.length + 1
        yield* Effect.sync(() => assert.lengthOf(skips, recreated)).pipe(eventually())
        assert.strictEqual(skips.at(-1)?.cause, "recreated")
      }),
    90_000
  )

  it.scopedLive(
    "added partitions are read within seconds from their beginning",
    () =>
      Effect.gen(function*() {
        const { consume, kafka, take, topic, untilCommitted, values, write } = yield* make
        yield* consume(take).pipe(Effect.forkScoped)
        yield* write(0, 1, () => "before")
        yield* untilCommitted(0, 1)
        yield* Kafka.withAdmin(
          kafka,
          (admin) => Kafka.attempt(() => admin.createPartitions({ topicPartitions: [{ topic, count: 6 }] }))
        )
        yield* Effect.gen(function*() {
          // a producer that knows the added partitions
          const { writeAll } = yield* Topics.make(kafka.brokers[0]!)
          yield* writeAll(topic, 5, [{ value: "on a new one" }])
        }).pipe(Effect.scoped, Effect.sandbox, eventually())
        yield* Effect.sync(() => assert.include(values, "on a new one")).pipe(eventually("15 seconds"))
      }),
    60_000
  )

  it.scopedLive(
    "a transaction that stays open is reported with lag and reason until it ends",
    () =>
      Effect.gen(function*() {
        const { consume, kafka, take, topic, untilReported, values, write } = yield* make
        yield* consume(take).pipe(Effect.forkScoped)
        yield* write(0, 3)
        const producer = yield* Effect.acquireRelease(
          Effect.promise(async () => {
            const producer = new Client({ brokers: [...kafka.brokers], logLevel: logLevel.NOTHING })
              .producer({ transactionalId: randomUUID(), idempotent: true, maxInFlightRequests: 1 })
            await producer.connect()
            return producer
          }),
          (producer) => Effect.promise(() => producer.disconnect())
        )
        const transaction = yield* Effect.promise(() => producer.transaction())
        yield* Effect.promise(() => transaction.send({ topic, messages: [{ partition: 0, value: "open" }] }))
        yield* write(0, 2, () => "behind it")
        yield* untilReported((problem) =>
          problem?.reason === "transaction" &&
          /^partition 0: 3 records behind, an open transaction upstream holds 3 records from offset 3 on, since /.test(
            problem.why
          )
        )
        assert.lengthOf(values, 3)
        yield* Effect.promise(() => transaction.commit())
        yield* untilReported((problem) => problem === undefined)
        assert.includeMembers(values, ["open", "behind it"])
      }),
    60_000
  )
})
