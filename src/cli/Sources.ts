import type { Sources } from "../audit/Sources.js"
import type { ConfigOf } from "../Config.js"
import { kafkaClient } from "../Config.js"
import * as Database from "./Database.js"
import { kafkaOptions } from "./Services.js"

/** The settings of the commands that read tables and topics. */
export const used = [
  ...Database.used,
  ...kafkaClient,
  "kafkaGroupId",
  "inventoryTopic",
  "inventoryDlqTopic",
  "paymentTopic",
  "inventoryAcceptStatuses",
  "outboxRetention"
] as const

/** Brokers, topics, group, accepted statuses and retention, for the story of an order and for the audit. */
export const sources = (config: ConfigOf<(typeof used)[number]>): Sources => ({
  kafka: kafkaOptions(config),
  groupId: config.kafkaGroupId,
  inventoryTopic: config.inventoryTopic,
  dlqTopic: config.inventoryDlqTopic,
  paymentTopic: config.paymentTopic,
  acceptStatuses: config.inventoryAcceptStatuses,
  retention: config.outboxRetention
})
