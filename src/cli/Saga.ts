import { Args, Command, HelpDoc, Options } from "@effect/cli"
import { Effect, Option, Schema } from "effect"
import { randomUUID } from "node:crypto"
import { AppConfig } from "../Config.js"
import * as InventoryEvent from "../domain/InventoryEvent.js"
import type { Outcome } from "../domain/Payment.js"
import { OrderId } from "../domain/Payment.js"
import * as PaymentsClient from "../grpc/PaymentsClient.js"
import * as KafkaProducer from "../infra/KafkaProducer.js"
import * as KafkaTail from "../infra/KafkaTail.js"
import { showAddress } from "../infra/Setting.js"
import { drained, json, print } from "./Output.js"
import { kafkaOptions } from "./Services.js"

const orderId = Args.text({ name: "order_id" }).pipe(
  Args.mapEffect((text) =>
    Effect.mapError(
      Schema.decode(Schema.compose(Schema.BigInt, OrderId))(text),
      () => HelpDoc.p(`order_id ${text} is not a whole number from 1 to 9223372036854775807`)
    )
  ),
  Args.withDescription("The order: a whole number from 1 to 9223372036854775807")
)

const client = Effect.flatMap(AppConfig, (config) => PaymentsClient.make(showAddress(config.grpcAddr)))

/** Writes an inventory record, as the service that reserves stock does. */
export const writeReservation = Effect.fn("Saga.writeReservation")(
  function*(event: InventoryEvent.InventoryEvent) {
    const config = yield* AppConfig
    const producer = yield* KafkaProducer.make(kafkaOptions(config))
    const record = { topic: config.inventoryTopic, key: null, value: InventoryEvent.encode(event) }
    const [place] = yield* producer.send([record], () => true)
    return { topic: config.inventoryTopic, partition: place!.partition, offset: place!.offset }
  },
  Effect.scoped
)

const reserve = Command.make("reserve", {
  orderId,
  key: Options.text("key").pipe(
    Options.withSchema(Schema.UUID),
    Options.withDescription("The idempotent_key; a new one by default"),
    Options.optional
  ),
  status: Options.text("status").pipe(
    Options.withDefault("COMPLETED"),
    Options.withDescription("The inventory status")
  ),
  json
}, ({ json, key, orderId, status }) =>
  Effect.gen(function*() {
    const idempotentKey = Option.getOrElse(key, () => randomUUID())
    const place = yield* writeReservation({ orderId, idempotentKey, status })
    yield* print(
      json,
      { order_id: orderId, idempotent_key: idempotentKey, status, ...place },
      `order ${orderId} ${status}, key ${idempotentKey}: written to ${place.topic}/${place.partition} at ${place.offset}`
    )
  })).pipe(Command.withDescription("Write an inventory record: the order is reserved"))

const settle = (name: string, outcome: Outcome, description: string) =>
  Command.make(name, { orderId, json }, ({ json, orderId }) =>
    Effect.gen(function*() {
      const payments = yield* client
      yield* payments.updatePaymentStatus(orderId, outcome)
      yield* print(json, { order_id: orderId, status: outcome }, `order ${orderId} ${outcome}`)
    }).pipe(Effect.scoped)).pipe(Command.withDescription(description))

const payment = Command.make("payment", { orderId, json }, ({ json, orderId }) =>
  Effect.gen(function*() {
    const payments = yield* client
    const { createdAt, status, updatedAt } = yield* payments.getPayment(orderId)
    yield* print(
      json,
      { order_id: orderId, status, created_at: createdAt, updated_at: updatedAt },
      `order ${orderId} ${status}, created ${createdAt.toISOString()}, updated ${updatedAt.toISOString()}`
    )
  }).pipe(Effect.scoped)).pipe(Command.withDescription("Show the payment of an order"))

const watch = Command.make("watch", {
  all: Options.boolean("from-beginning").pipe(Options.withDescription("Begin with the first record that is there")),
  json
}, ({ all, json }) =>
  Effect.gen(function*() {
    const config = yield* AppConfig
    const records = yield* KafkaTail.open({
      ...kafkaOptions(config),
      topic: config.paymentTopic,
      from: all ? "beginning" : "end"
    })
    return yield* Effect.flatMap(records.take, ({ key, offset, partition, unread, value }) => {
      const text = unread?.reason ?? value?.toString() ?? ""
      return print(
        json,
        { partition, offset, key: key?.toString() ?? null, value: text },
        `${config.paymentTopic}/${partition} at ${offset}  ${text}`
      )
    }).pipe(Effect.zipRight(drained), Effect.forever)
  }).pipe(Effect.scoped)).pipe(Command.withDescription("Follow topic payment, one line a record"))

/** The saga by hand. */
export const commands = [
  reserve,
  settle("pay", "COMPLETED", "Pay an order"),
  settle("refuse", "FAILED", "Do not pay an order"),
  payment,
  watch
] as const
