import { Command, Options } from "@effect/cli"
import { Effect, Either, Option, Schema } from "effect"
import { randomUUID } from "node:crypto"
import { kafkaClient, readSettings } from "../Config.js"
import * as InventoryEvent from "../domain/InventoryEvent.js"
import type { TerminalStatus } from "../domain/Payment.js"
import type * as PaymentsClient from "../grpc/PaymentsClient.js"
import * as KafkaProducer from "../infra/kafka/KafkaProducer.js"
import * as KafkaTail from "../infra/kafka/KafkaTail.js"
import { text } from "../infra/runtime/Setting.js"
import * as StandardStreams from "../infra/runtime/StandardStreams.js"
import { client } from "./Calls.js"
import { option, orderId } from "./Flags.js"
import { json, print, waitingFor, withSettings } from "./Output.js"
import { kafkaOptions } from "./Services.js"

const isUuid = Schema.is(Schema.UUID)

const usedToReserve = [...kafkaClient, "inventoryTopic"] as const

/**
 * Writes an inventory record, as the service that reserves stock does. Its timestamp is the time of this host. Returns its
 * position on the topic.
 */
export const writeReservation = Effect.fn("Saga.writeReservation")(
  function*(event: InventoryEvent.InventoryEvent) {
    const config = yield* readSettings(...usedToReserve)
    const producer = yield* KafkaProducer.make(kafkaOptions(config))
    const record = { topic: config.inventoryTopic, key: null, value: InventoryEvent.encode(event) }
    const [written] = yield* producer.send([record], () => true)
    return { topic: config.inventoryTopic, partition: written!.partition, offset: written!.offset }
  },
  Effect.scoped
)

const reserve = Command.make("reserve", {
  orderId,
  key: option("key", (text) => isUuid(text) ? Either.right(text) : Either.left("is not a UUID"), "uuid").pipe(
    Options.withDescription("The idempotent_key; a new one by default"),
    Options.optional
  ),
  status: option("status", text, "status").pipe(
    Options.withDefault("COMPLETED"),
    Options.withDescription("The inventory status; COMPLETED by default")
  ),
  json
}, ({ json, key, orderId, status }) =>
  Effect.gen(function*() {
    const idempotentKey = Option.getOrElse(key, () => randomUUID())
    const written = yield* withSettings(usedToReserve, () => writeReservation({ orderId, idempotentKey, status })).pipe(
      waitingFor("writing to Kafka")
    )
    yield* print(
      json,
      { order_id: orderId, idempotent_key: idempotentKey, status, ...written },
      `reserved order ${orderId} (inventory record ${status}, key ${idempotentKey}) ` +
        `at ${written.topic}/${written.partition}@${written.offset}`
    )
  })).pipe(Command.withDescription("Write an inventory record, stamped with the time of this host"))

/** Says where an event of the order is dead, or waits behind a dead one. Undefined when none is dead. */
const standstill = (orderId: bigint, pending: ReadonlyArray<PaymentsClient.PendingEvent>) => {
  const dead = pending.find((event) => event.dead)
  if (dead === undefined) return undefined
  const behind = pending.slice(pending.indexOf(dead) + 1).map(({ says }) => says)
  return `the readers of topic payment do not learn of it: event ${dead.id} (${dead.says}) is dead (${dead.lastError})` +
    `${
      behind.length === 0 ? "" : `, and ${behind.join(", ")} waits behind it`
    }. payments order ${orderId} says what to do`
}

const settle = (name: string, outcome: TerminalStatus, description: string) =>
  Command.make(name, { orderId, json }, ({ json, orderId }) =>
    Effect.gen(function*() {
      const payments = yield* client
      yield* payments.updatePaymentStatus(orderId, outcome)
      // the call was OK: a failure of this question changes nothing
      const pending = yield* Effect.match(payments.getPaymentAndPending(orderId), {
        onFailure: () => [],
        onSuccess: ({ pending }) => pending
      })
      const warning = standstill(orderId, pending)
      yield* print(
        json,
        { order_id: orderId, status: outcome, ...(warning === undefined ? {} : { warning }) },
        [`order ${orderId} ${outcome}`, ...(warning === undefined ? [] : [warning])].join("\n")
      )
    }).pipe(Effect.scoped)).pipe(Command.withDescription(description))

const payment = Command.make("payment", { orderId, json }, ({ json, orderId }) =>
  Effect.gen(function*() {
    const payments = yield* client
    const { payment: { createdAt, settledBy, status, updatedAt }, pending } = yield* payments.getPaymentAndPending(
      orderId
    )
    const warning = standstill(orderId, pending)
    yield* print(
      json,
      {
        order_id: orderId,
        status,
        created_at: createdAt,
        updated_at: updatedAt,
        ...(Option.isNone(settledBy) ? {} : { settled_by: settledBy.value }),
        ...(pending.length === 0
          ? {}
          : { pending: pending.map(({ lastError, ...event }) => ({ ...event, last_error: lastError })) }),
        ...(warning === undefined ? {} : { warning })
      },
      [
        `order ${orderId} ${status}, created ${createdAt.toISOString()}, updated ${updatedAt.toISOString()}` +
        Option.match(settledBy, { onNone: () => "", onSome: (name) => `, settled by ${name}` }),
        ...(warning === undefined ? [] : [warning])
      ].join("\n")
    )
  }).pipe(Effect.scoped)).pipe(Command.withDescription("Show the payment of an order"))

const watch = Command.make(
  "watch",
  {
    all: Options.boolean("from-beginning").pipe(Options.withDescription("Begin with the first record of the topic")),
    json
  },
  ({ all, json }) =>
    withSettings([...kafkaClient, "paymentTopic"], (config) =>
      Effect.gen(function*() {
        const records = yield* KafkaTail.open({
          ...kafkaOptions(config),
          topic: config.paymentTopic,
          from: all ? "beginning" : "end"
        }).pipe(waitingFor(`asking Kafka for topic ${config.paymentTopic}`))
        return yield* Effect.flatMap(records.take, ({ key, offset, partition, unread, value }) => {
          const text = unread?.reason ?? value?.toString() ?? ""
          return print(
            json,
            { partition, offset, key: key?.toString() ?? null, value: text },
            `${config.paymentTopic}/${partition}@${offset}  ${text}`
          )
        }).pipe(Effect.forever, Effect.raceFirst(StandardStreams.readerGone))
      }).pipe(Effect.scoped))
).pipe(
  Command.withDescription("Follow topic payment, one line a record, until Ctrl-C or until the output is closed")
)

/** The commands that play the saga by hand. */
export const commands = [
  reserve,
  settle("pay", "COMPLETED", "Pay an order"),
  settle("refuse", "FAILED", "Refuse an order"),
  payment,
  watch
] as const
