import type { Spread } from "../infra/kafka/KafkaPartitioner.js"
import type { OutgoingRecord } from "../infra/kafka/KafkaProducer.js"
import type { OutboxEvent } from "./OutboxEvent.js"

/** The record of an event for its topic. */
export interface EventRecord extends OutgoingRecord {
  readonly event: OutboxEvent
}

/** Header with the id of the event. */
export const idHeader = "event-id"

/** Header that says why a payment failed that no call refused: `expired`. */
export const reasonHeader = "payment-reason"

const contentType = "application/json"

const headersOf = ({ id, reason, traceparent }: OutboxEvent): Record<string, string> => {
  const headers = traceparent === null
    ? { [idHeader]: id, "content-type": contentType }
    : { [idHeader]: id, "content-type": contentType, traceparent }
  return reason == null ? headers : { ...headers, [reasonHeader]: reason }
}

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
  headers: headersOf(event)
})
