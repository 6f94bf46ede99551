import { assert, layer } from "@effect/vitest"
import { Context, Deferred, Effect, Either, Exit, Layer } from "effect"
import { randomUUID } from "node:crypto"
import * as KafkaProducer from "../../../src/infra/kafka/KafkaProducer.js"
import { eventually } from "../../harness/Eventually.js"
import * as KafkaAnswers from "../../harness/KafkaAnswers.js"
import * as Topics from "../../harness/Topics.js"
import * as Saga from "../Saga.js"
import * as Cluster from "./Cluster.js"

class AtCluster extends Context.Tag("test/AtCluster")<
  AtCluster,
  Effect.Effect.Success<ReturnType<typeof Cluster.make>>
>() {}

const cluster = Layer.scoped(AtCluster, Cluster.make())

/** A producer of its own, records for all partitions of a new topic, and how many are on it. */
const writer = Effect.gen(function*() {
  const cluster = yield* AtCluster
  const topic = `payment-${randomUUID().slice(0, 8)}`
  const topics = yield* Topics.make(cluster.url)
  yield* topics.create(topic)
  const { byPartition, send } = yield* KafkaProducer.make({ brokers: cluster.url.split(","), clientId: "writer" })
  const written: KafkaProducer.WrittenRecords = new WeakSet()
  return {
    byPartition,
    send: (records: ReadonlyArray<KafkaProducer.OutgoingRecord>) => send(records, () => true, written),
    records: Array.from({ length: 40 }, (_, n) => ({ topic, key: String(n), value: "one" })),
    onTopic: Effect.map(topics.ends(topic), (ends) => ends.reduce((sum, { high }) => sum + Number(high), 0))
  } as const
})

layer(cluster, { timeout: "120 seconds", excludeTestServices: true })("P1 P3 P8: three brokers", (it) => {
  for (const delivery of ["at-least-once", "exactly-once"]) {
    it.scoped(
      `${delivery}: the broker that coordinates the group and leads some partitions is killed`,
      () =>
        Effect.gen(function*() {
          const cluster = yield* AtCluster
          const saga = yield* Saga.make({
            servers: { kafkaBrokers: cluster.url },
            env: { OUTBOX_DELIVERY: delivery, OUTBOX_LEASE: "5s" }
          })
          const { group, inventory, payment } = saga.world
          const program = yield* saga.serve()
          yield* program.untilReady
          yield* saga.outlives(
            Effect.gen(function*() {
              yield* cluster.inSync
              const node = yield* cluster.coordinator(group)
              for (const topic of [inventory, payment]) {
                assert.include([...(yield* cluster.leaders(topic)).values()], node, `leads nothing of ${topic}`)
              }
              const { crash, start } = cluster.broker(node)
              // the others are enough
              const moved = Effect.tap(
                cluster.coordinator(group),
                (now) => assert.notInclude([node, -1], now)
              ).pipe(eventually())
              yield* Effect.acquireUseRelease(
                crash,
                () => Effect.zipRight(moved, saga.more(100)),
                // a start that cannot be interrupted never gives up its waits
                () => Effect.interruptible(Effect.orDie(start))
              )
            }),
            { noResends: delivery === "exactly-once" }
          )
          yield* program.untilReady
          assert.notInclude(program.stderr(), "a bug ended the service")
        }),
      240_000
    )
  }

  it.scoped("a broker loses a partition while others have not answered: their records are not sent again", () =>
    Effect.gen(function*() {
      const { onTopic, records, send } = yield* writer
      let first: number | undefined
      let asked = 0
      const askedAgain = yield* Deferred.make<void>()
      // they answer when somebody asks again, which nobody has to
      const late = Effect.runPromise(Effect.timeoutOption(Deferred.await(askedAgain), "300 millis"))
      yield* KafkaAnswers.between((request, ask, port) => {
        if (request !== "Produce") return ask()
        first ??= port
        if (port !== first) return ask().then((answer) => late.then(() => answer))
        if (asked++ === 0) return Promise.reject(KafkaAnswers.errors.notLeader())
        Deferred.unsafeDone(askedAgain, Exit.void)
        return ask()
      })
      yield* send(records)
      assert.strictEqual(asked, 2)
      assert.strictEqual(yield* onTopic, records.length)
    }))

  it.scoped("one broker fails all attempts: records that others took are not sent with the next batch", () =>
    Effect.gen(function*() {
      const { onTopic, records, send } = yield* writer
      let first: number | undefined
      let away = true
      yield* KafkaAnswers.between((request, ask, port) =>
        request === "Produce" && port === (first ??= port) && away
          ? Promise.reject(KafkaAnswers.errors.notLeader())
          : ask()
      )
      const error = yield* Effect.flip(send(records))
      assert.strictEqual(error._tag, "KafkaUnavailable")
      const taken = yield* onTopic
      assert.isTrue(taken > 0 && taken < records.length, `${taken}`)
      away = false
      yield* send(records)
      assert.strictEqual(yield* onTopic, records.length)
    }))

  it.scoped("a broker refuses a record: records that others took are not sent again with the rest", () =>
    Effect.gen(function*() {
      const { byPartition, onTopic, records, send } = yield* writer
      const spoiled = records.map((record, n) => n === 7 ? { ...record, value: "x".repeat(2_000_000) } : record)
      assert.strictEqual((yield* Effect.flip(send(spoiled)))._tag, "RecordsRefused")
      const groups = byPartition(spoiled)
      const sent = yield* Effect.forEach(groups, (group) => Effect.either(send(group)))
      assert.deepStrictEqual(
        sent.map((_) => Either.isLeft(_) ? _.left._tag : "sent"),
        groups.map((group) => group.includes(spoiled[7]!) ? "RecordsRefused" : "sent")
      )
      const refused = groups.find((group) => group.includes(spoiled[7]!))!
      assert.strictEqual(yield* onTopic, records.length - refused.length)
      yield* Effect.forEach(refused.filter((record) => record !== spoiled[7]), (record) => send([record]))
      assert.strictEqual(yield* onTopic, records.length - 1)
    }))
})
