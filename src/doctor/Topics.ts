import { Either, Option } from "effect"
import type { ConfigOf } from "../Config.js"
import type { Description, TopicDescription } from "../infra/kafka/KafkaDescription.js"
import type { Fault, Result } from "./Finding.js"
import { at, bytes, millis, when } from "./Finding.js"

const { judge, notChecked } = at("kafka")

const day = 24 * 60 * 60 * 1_000

/** A record of topic `payment` with key, headers and frame is smaller than this, in bytes. */
const recordBytes = 320

/** Headers of a dead letter beside those of its record, in bytes. */
const deadLetterHeaders = 4 * 1024

export interface TopicsAsked {
  readonly config: ConfigOf<
    "inventoryTopic" | "inventoryDlqTopic" | "paymentTopic" | "kafkaCreateTopics" | "outboxBatchSize" | "outboxDelivery"
  >
  /** The topics to check, of those three. */
  readonly topics: ReadonlyArray<string>
  /** Partitions of topic `payment` when payments were created last, from the database. */
  readonly spread: Option.Option<number>
}

/** Leaders and copies of the partitions. */
const copies = ({ partitions, topic }: TopicDescription, brokers: number): Result => {
  const replicas = Math.min(...partitions.map((_) => _.replicas))
  const behind = partitions.filter((_) => _.inSync < _.replicas).length
  const leaderless = partitions.filter(({ leader }) => leader < 0).map(({ id }) => id)
  const found = `topic ${topic} has ${partitions.length} partitions with ${replicas} replicas on ${brokers} brokers, ` +
    `${behind} of them not in sync, ${leaderless.length} without a leader`
  const fault = when(
    leaderless.length > 0,
    `partitions ${leaderless.join(", ")} can be neither read nor written`,
    "start the brokers that hold them"
  ) ?? when(
    brokers > 1 && replicas < 2,
    "the records of a partition are lost with its broker",
    `raise the replication factor of ${topic} to ${Math.min(3, brokers)} (kafka-reassign-partitions.sh)`
  ) ?? when(
    behind > 0,
    `the loss of one more broker may stop ${behind} partitions, or lose their records`,
    "look for brokers that are down, slow or without disk space (kafka-topics.sh --describe --under-replicated-partitions)"
  )
  return judge("topic.replication", found, fault)
}

const minInSync = ({ partitions, topic }: TopicDescription, least: number): Result => {
  const replicas = Math.min(...partitions.map((_) => _.replicas))
  const inSync = Math.min(...partitions.map((_) => _.inSync))
  const found = `topic ${topic}: min.insync.replicas is ${least} of ${replicas} replicas, ${inSync} in sync`
  return judge(
    "topic.min_insync",
    found,
    when(
      least > inSync,
      "the brokers refuse records now (NOT_ENOUGH_REPLICAS)",
      least > replicas
        ? `set min.insync.replicas of ${topic} to ${Math.max(1, replicas - 1)}`
        : "start the missing brokers"
    ) ?? when(
      replicas > 1 && least >= replicas,
      "one broker that stops is enough to stop all writing",
      `set min.insync.replicas of ${topic} to ${replicas - 1}`
    ) ?? when(
      replicas > 2 && least < 2,
      "an acknowledged record may be on one broker only, and is lost with it",
      `set min.insync.replicas of ${topic} to 2`
    )
  )
}

/** What the service needs of one topic's settings. */
const ofSettings = (
  { topic }: TopicDescription,
  settings: ReadonlyMap<string, string>,
  maxBytes: { readonly needed: number; readonly why: string; readonly consequence: string } | undefined
): ReadonlyArray<Result> => {
  const number = (name: string) => Number(settings.get(name))
  const cleanup = settings.get("cleanup.policy") ?? ""
  const [retention, size, largest] = [number("retention.ms"), number("retention.bytes"), number("max.message.bytes")]
  const set = (setting: string) =>
    `kafka-configs.sh --alter --entity-type topics --entity-name ${topic} --add-config ${setting}`
  return [
    judge(
      "topic.cleanup",
      `topic ${topic}: cleanup.policy is ${cleanup}`,
      when(
        cleanup.includes("compact"),
        "compaction deletes earlier records with the same key: events, reservations or dead letters are lost",
        set("cleanup.policy=delete")
      )
    ),
    judge(
      "topic.retention",
      `topic ${topic}: retention.ms is ${retention} (${millis(retention)}), retention.bytes ${size}`,
      when(
        retention >= 0 && retention < day,
        `a reader that is away for longer than ${millis(retention)} loses records for good`,
        set(`retention.ms=${7 * day}`)
      )
    ),
    judge(
      "topic.max_message",
      `topic ${topic}: max.message.bytes is ${largest} (${bytes(largest)})` +
        (maxBytes === undefined ? "" : `; ${maxBytes.why} ${maxBytes.needed}`),
      maxBytes && when(largest < maxBytes.needed, maxBytes.consequence, set(`max.message.bytes=${maxBytes.needed}`))
    )
  ]
}

const partitions = ({ partitions, topic }: TopicDescription, spread: Option.Option<number>): ReadonlyArray<Result> =>
  Option.match(spread, {
    onNone: () => [],
    onSome: (known) => [judge(
      "topic.partitions",
      `topic ${topic} has ${partitions.length} partitions, and payments were spread over ${known}`,
      when(
        partitions.length < known,
        "events for the missing partitions wait 30 s, and then go to other partitions: readers may see an order's events " +
          "out of their order",
        `give ${topic} ${known} partitions (kafka-topics.sh --alter), unless it was made again on purpose`
      )
    )]
  })

/** Checks the topics of the service, as the brokers describe them. */
export const check = ({ config, spread, topics }: TopicsAsked, description: Description): ReadonlyArray<Result> => {
  const described = new Map(description.topics.map((topic) => [topic.topic, topic]))
  const settingsOf = (topic: string) =>
    Option.flatMap(Option.fromNullable(described.get(topic)), (_) => Either.getRight(_.settings))
  const largestInventory = Option.map(
    settingsOf(config.inventoryTopic),
    (settings) => Number(settings.get("max.message.bytes"))
  )
  const batch = config.outboxBatchSize * (config.outboxDelivery === "exactly-once" ? 4 : 1)
  const maxBytesOf = (topic: string) =>
    topic === config.paymentTopic
      ? {
        needed: batch * recordBytes,
        why: `a batch of ${batch} events takes up to`,
        consequence: "the brokers refuse a full batch (MESSAGE_TOO_LARGE), and the relay sends its events one by one"
      }
      : topic === config.inventoryDlqTopic && Option.isSome(largestInventory)
      ? {
        needed: largestInventory.value + deadLetterHeaders,
        why: `the largest record of ${config.inventoryTopic} takes with its headers`,
        consequence: "dead letters of large records are cut, and cannot be replayed"
      }
      : undefined

  return topics.flatMap((name) => {
    const topic = described.get(name)
    if (topic === undefined) {
      return config.kafkaCreateTopics
        ? [
          notChecked(
            "topic.exists",
            `topic ${name} does not exist, or this user may not see it; the service creates it`
          )
        ]
        : [judge("topic.exists", `topic ${name} does not exist, or this user may not see it`, missing(name))]
    }
    return [
      copies(topic, description.brokers),
      ...(name === config.paymentTopic ? partitions(topic, spread) : []),
      ...Either.match(topic.settings, {
        onLeft: (error) => [
          notChecked("topic.settings", `settings of topic ${name}: ${error} (grant DescribeConfigs on the topic)`)
        ],
        onRight: (settings) => [
          ...ofSettings(topic, settings, maxBytesOf(name)),
          minInSync(topic, Number(settings.get("min.insync.replicas")))
        ]
      })
    ]
  })
}

const missing = (topic: string): Fault => ({
  consequence: "the service waits for it, and is not ready",
  remedy: `create ${topic}, or set KAFKA_CREATE_TOPICS=true`
})
