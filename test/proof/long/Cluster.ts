import { Effect } from "effect"
import { Kafka, logLevel } from "kafkajs"
import { strict as assert } from "node:assert"
import { eventually } from "../../harness/Eventually.js"
import { freePort } from "../../harness/FreePort.js"
import * as Restartable from "../../harness/Restartable.js"

const nodes = [1, 2, 3] as const
/** As the local stack has it. */
const offsetsPartitions = 4

/** `String.hashCode` of Java, without its sign. */
const hash = (text: string) => [...text].reduce((h, c) => (Math.imul(31, h) + c.charCodeAt(0)) | 0, 0) & 0x7fffffff

/** Three brokers, each of which is controller too. Every topic is on all of them; one in sync is enough, as is the default. */
export const make = Effect.gen(function*() {
  const ports = yield* Effect.forEach(nodes, () => Effect.all({ broker: freePort, controller: freePort }))
  const voters = nodes.map((node) => `${node}@127.0.0.1:${ports[node - 1]!.controller}`).join()
  const brokers = yield* Effect.forEach(nodes, (node) => {
    const { broker, controller } = ports[node - 1]!
    return Restartable.make("kafka", {
      port: broker,
      kafkaProperties: {
        "cluster.id": "MkU3OEVBNTcwNTJENDM2Qg",
        "node.id": String(node),
        "controller.quorum.voters": voters,
        "listeners": `PLAINTEXT://127.0.0.1:${broker},CONTROLLER://127.0.0.1:${controller}`,
        "default.replication.factor": "3",
        "offsets.topic.replication.factor": "3",
        "transaction.state.log.replication.factor": "3",
        // one that is gone is missed after 3 s, not 9
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500"
      }
    })
  }, { concurrency: "unbounded" })
  const url = brokers.map((broker) => broker.url).join()

  const admin = yield* Effect.acquireRelease(
    Effect.promise(async () => {
      const admin = new Kafka({ clientId: "stranger", brokers: url.split(","), logLevel: logLevel.NOTHING }).admin()
      await admin.connect()
      return admin
    }),
    (admin) => Effect.promise(() => admin.disconnect())
  )

  /** The node that leads each partition. */
  const leaders = (topic: string) =>
    Effect.promise(async () => {
      const { topics } = await admin.fetchTopicMetadata({ topics: [topic] })
      return new Map(topics[0]!.partitions.map(({ leader, partitionId }) => [partitionId, leader]))
    })

  /** Ends when every broker has what the others have: any one of them may go. */
  const inSync = Effect.promise(async () => (await admin.fetchTopicMetadata()).topics).pipe(
    Effect.tap((topics) => {
      for (const { name, partitions } of topics) {
        for (const { isr, partitionId } of partitions) assert.equal(isr.length, nodes.length, `${name}/${partitionId}`)
      }
    }),
    eventually("30 seconds")
  )

  return {
    url,
    leaders,
    inSync,
    /** The node that coordinates a consumer group. */
    coordinator: (group: string) =>
      Effect.map(leaders("__consumer_offsets"), (leaders) => leaders.get(hash(group) % offsetsPartitions)!),
    broker: (node: number) => brokers[node - 1]!
  } as const
})
