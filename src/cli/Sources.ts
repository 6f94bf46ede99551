import type { ConfigOf } from "../Config.js"
import type { StoryOptions } from "../story/OrderStory.js"
import * as Database from "./Database.js"
import { kafkaOptions } from "./Services.js"

/** The settings of the commands that read tables and topics. */
export const used = [
  ...Database.used,
  "kafkaBrokers",
  "kafkaClientId",
  "kafkaGroupId",
  "inventoryTopic",
  "inventoryDlqTopic",
  "paymentTopic",
  "inventoryAcceptStatuses",
  "outboxRetention"
] as const

/** Brokers, topics, group, accepted statuses and retention, for the story of an order and for the audit. */
export const sources = (config: ConfigOf<(typeof used)[number]>): StoryOptions => ({
  kafka: kafkaOptions(config),
  groupId: config.kafkaGroupId,
  inventoryTopic: config.inventoryTopic,
  dlqTopic: config.inventoryDlqTopic,
  paymentTopic: config.paymentTopic,
  acceptStatuses: config.inventoryAcceptStatuses,
  retention: config.outboxRetention
})
