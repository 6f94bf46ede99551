import type { Scope } from "effect"
import { Effect } from "effect"
import { Kafka, logLevel } from "kafkajs"
import { strict as assert } from "node:assert"
import { randomBytes } from "node:crypto"
import { mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { eventually } from "../../harness/Eventually.js"
import { freePort } from "../../harness/FreePort.js"
import * as Restartable from "../../harness/Restartable.js"
import { freshFolder } from "../../harness/World.js"

const nodes = [1, 2, 3] as const
/** As the local stack has it. */
const offsetsPartitions = 4

/** `String.hashCode` of Java, without its sign. */
const hash = (text: string) => [...text].reduce((h, c) => (Math.imul(31, h) + c.charCodeAt(0)) | 0, 0) & 0x7fffffff

const clusterId = "MkU3OEVBNTcwNTJENDM2Qg"

/** Formats the data of a broker as Kafka's tool does, which takes two seconds of processor time a broker. */
const format = (folder: string, node: number, dataFolders: ReadonlyArray<string>) =>
  Effect.sync(() => {
    for (const data of dataFolders) {
      mkdirSync(`${folder}/kafka/${data}`, { recursive: true })
      writeFileSync(
        `${folder}/kafka/${data}/meta.properties`,
        `version=1\ncluster.id=${clusterId}\nnode.id=${node}\ndirectory.id=${
          randomBytes(16).toString("base64url").replace(/^-/, "A")
        }\n`
      )
    }
  })

/** Three brokers, each of which is controller too. Every topic is on all of them. `inSync` brokers must have a record. */
export const make = Effect.fnUntraced(function*(
  { dataFolders = ["data"], inSync: least = 1, prepare = () => Effect.void, properties = {} }: {
    /** Default: 1, as in Kafka. */
    readonly inSync?: number
    readonly properties?: Readonly<Record<string, string>>
    /** Folders of the records of a broker; the first has its metadata too. */
    readonly dataFolders?: ReadonlyArray<string>
    /** Runs before a broker starts for the first time. Gets the path to its folders. */
    readonly prepare?: (node: number, path: string) => Effect.Effect<void, never, Scope.Scope>
  } = {}
) {
  const ports = yield* Effect.forEach(nodes, () => Effect.all({ broker: freePort, controller: freePort }))
  const voters = nodes.map((node) => `${node}@127.0.0.1:${ports[node - 1]!.controller}`).join()
  const folders = yield* Effect.forEach(nodes, () => freshFolder)
  const brokers = yield* Effect.forEach(
    nodes,
    Effect.fnUntraced(function*(node) {
      const { broker, controller } = ports[node - 1]!
      const folder = folders[node - 1]!
      yield* prepare(node, `${folder}/kafka`)
      yield* format(folder, node, dataFolders)
      return yield* Restartable.make("kafka", {
        folder,
        port: broker,
        kafkaProperties: {
          "cluster.id": clusterId,
          "node.id": String(node),
          "controller.quorum.voters": voters,
          "listeners": `PLAINTEXT://127.0.0.1:${broker},CONTROLLER://127.0.0.1:${controller}`,
          "default.replication.factor": "3",
          "offsets.topic.replication.factor": "3",
          "transaction.state.log.replication.factor": "3",
          "transaction.state.log.min.isr": String(least),
          "min.insync.replicas": String(least),
          "log.dirs": dataFolders.join(),
          "metadata.log.dir": dataFolders[0]!,
          // one that is gone is missed after 3 s, not 9
          "broker.session.timeout.ms": "3000",
          "broker.heartbeat.interval.ms": "500",
          ...properties
        }
      })
    }),
    { concurrency: "unbounded" }
  )
  const url = brokers.map((broker) => broker.url).join()

  const admin = yield* Effect.acquireRelease(
    Effect.promise(async () => {
      const admin = new Kafka({ clientId: "stranger", brokers: url.split(","), logLevel: logLevel.NOTHING }).admin()
      await admin.connect()
      return admin
    }),
    (admin) => Effect.promise(() => admin.disconnect())
  )

  const described = (topic: string) =>
    Effect.promise(async () => (await admin.fetchTopicMetadata({ topics: [topic] })).topics[0]!.partitions)

  /** The node that leads each partition. */
  const leaders = (topic: string) =>
    Effect.promise(async () => {
      const { topics } = await admin.fetchTopicMetadata({ topics: [topic] })
      return new Map(topics[0]!.partitions.map(({ leader, partitionId }) => [partitionId, leader]))
    })

  /** Ends when every broker has what the others have: any one of them may go. */
  const inSyncNow = Effect.promise(async () => (await admin.fetchTopicMetadata()).topics).pipe(
    Effect.tap((topics) => {
      for (const { name, partitions } of topics) {
        for (const { isr, partitionId } of partitions) assert.equal(isr.length, nodes.length, `${name}/${partitionId}`)
      }
    }),
    eventually("90 seconds")
  )
  // a broker may answer with what it knew a moment ago
  const inSync = inSyncNow.pipe(Effect.zipRight(Effect.sleep("1 second")), Effect.zipRight(inSyncNow))

  /** Ends when each partition of a topic is led by the first of its replicas: the preferred one. */
  const preferred = (topic: string) =>
    described(topic).pipe(
      Effect.tap((partitions) => {
        for (const { leader, partitionId, replicas } of partitions) {
          assert.equal(leader, replicas[0], `${topic}/${partitionId} is led by ${leader}`)
        }
      }),
      eventually("60 seconds")
    )

  /** Moves partitions of a topic to these nodes, and ends when they are there and in sync. */
  const place = (topic: string, wanted: ReadonlyMap<number, ReadonlyArray<number>>) =>
    Effect.promise(() =>
      admin.alterPartitionReassignments({
        topics: [{
          topic,
          partitionAssignment: [...wanted].map(([partition, replicas]) => ({ partition, replicas: [...replicas] }))
        }]
      })
    ).pipe(
      Effect.zipRight(
        described(topic).pipe(
          Effect.tap((partitions) => {
            for (const { isr, partitionId, replicas: now } of partitions) {
              const replicas = wanted.get(partitionId)
              if (replicas === undefined) continue
              assert.deepEqual([...now].sort(), [...replicas].sort(), `${topic}/${partitionId}`)
              assert.equal(isr.length, replicas.length, `${topic}/${partitionId} is not in sync`)
            }
          }),
          eventually("60 seconds")
        )
      )
    )

  /** Moves all partitions of a topic to these nodes, and ends when they are there and in sync. */
  const reassign = (topic: string, replicas: ReadonlyArray<number>) =>
    Effect.flatMap(
      described(topic),
      (partitions) => place(topic, new Map(partitions.map(({ partitionId }) => [partitionId, replicas])))
    )

  /** The node of the active controller, as a node has noted it that runs. */
  const controller = (witness: number) =>
    Effect.sync(() => {
      const state = readFileSync(`${brokers[witness - 1]!.data}/__cluster_metadata-0/quorum-state`, "utf8")
      return (JSON.parse(state) as { readonly leaderId: number }).leaderId
    })

  /** Starts a broker whose data is gone, as a new one with the same number. */
  const replace = (node: number) =>
    Effect.zipRight(format(folders[node - 1]!, node, dataFolders), brokers[node - 1]!.start)

  return {
    url,
    replace,
    described,
    preferred,
    place,
    reassign,
    controller,
    leaders,
    inSync,
    /** The node that coordinates a consumer group. */
    coordinator: (group: string) =>
      Effect.map(leaders("__consumer_offsets"), (leaders) => leaders.get(hash(group) % offsetsPartitions)!),
    broker: (node: number) => brokers[node - 1]!
  } as const
})
