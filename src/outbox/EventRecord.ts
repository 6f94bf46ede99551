import type { Spread } from "../infra/kafka/KafkaPartitioner.js"
import type { OutgoingRecord } from "../infra/kafka/KafkaProducer.js"
import type { OutboxEvent } from "./OutboxEvent.js"

/** An event as it goes onto its topic. */
export interface EventRecord extends OutgoingRecord {
  readonly event: OutboxEvent
}

/** Header with the id of the event. */
export const idHeader = "event-id"

const contentType = "application/json"

/**
 * The record of an event: body and key as the contract has them, all else in headers. `spread` tells over how many
 * partitions the orders of its generation are spread.
 */
export const make = (event: OutboxEvent, spread: Spread): EventRecord => ({
  event,
  spread,
  topic: event.topic,
  key: event.key,
  value: event.payload,
  headers: event.traceparent === null
    ? { [idHeader]: event.id, "content-type": contentType }
    : { [idHeader]: event.id, "content-type": contentType, traceparent: event.traceparent }
})
