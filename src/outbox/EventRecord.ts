import type { Spread } from "../infra/kafka/KafkaPartitioner.js"
import type { OutgoingRecord } from "../infra/kafka/KafkaProducer.js"
import type { OutboxEvent } from "./OutboxEvent.js"

/** The record of an event for its topic. */
export interface EventRecord extends OutgoingRecord {
  readonly event: OutboxEvent
}

/** Header with the id of the event. */
export const idHeader = "event-id"

const contentType = "application/json"

/**
 * Makes the record of an event: body and key as the contract defines them, metadata in headers. `spread` has the number of
 * partitions for the orders of its generation.
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
