import type { SqlError } from "@effect/sql"
import { SqlClient } from "@effect/sql"
import { Clock, Console, Effect, Schedule } from "effect"
import { randomUUID } from "node:crypto"
import { kafkaClient, readSettings } from "../Config.js"
import { OrderId } from "../domain/Payment.js"
import * as KafkaTail from "../infra/kafka/KafkaTail.js"
import { client } from "./Calls.js"
import * as Database from "./Database.js"
import { writeReservation } from "./Saga.js"
import { kafkaOptions } from "./Services.js"

/** Repeats a query until it returns a row, for at most 30 seconds. Returns the first row. */
const firstRow = <A>(query: Effect.Effect<ReadonlyArray<A>, SqlError.SqlError>) =>
  query.pipe(
    Effect.flatMap((rows) => rows.length === 0 ? Effect.fail("not yet" as const) : Effect.succeed(rows[0]!)),
    Effect.retry(Schedule.spaced("5 millis")),
    Effect.timeout("30 seconds")
  )

/** Prints one step: where it was seen, and what. */
const show = (where: string, seen: string) => Console.log(`  ${where.padEnd(20)}${seen}`)

/** The first free order id from 110 on: the first start leaves 111 to the tour of the console. */
const nextOrder = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const [row] = yield* sql<{ readonly next: string }>`
    SELECT coalesce(max(order_id) + 1, 110) AS next FROM payment WHERE order_id BETWEEN 110 AND 999999999
  `
  return OrderId.make(BigInt(row!.next))
})

const play = Effect.gen(function*() {
  const config = yield* readSettings(...kafkaClient, "paymentTopic")
  const sql = yield* SqlClient.SqlClient
  const orderId = yield* nextOrder
  const records = yield* KafkaTail.open({ ...kafkaOptions(config), topic: config.paymentTopic, from: "end" })
  const payments = yield* client

  const showChange = Effect.fnUntraced(function*(status: "CREATED" | "COMPLETED", since: number) {
    yield* firstRow(sql`SELECT id FROM payment WHERE order_id = ${orderId} AND status = ${status}::payment_status`)
    yield* show("table payment", `${status} after ${(yield* Clock.currentTimeMillis) - since} ms`)
    const event = yield* firstRow(sql<{ readonly id: string; readonly millis: number }>`
      SELECT id, round(extract(epoch FROM done_at - created_at) * 1000)::int AS millis FROM event
      WHERE order_id = ${orderId} AND status = 'DONE' AND payload::jsonb ->> 'status' = ${status}
    `)
    yield* show("table event", `event ${event.id} WAIT, and DONE ${event.millis} ms later`)
    const { offset, partition, value } = yield* records.take.pipe(
      Effect.repeat({ until: ({ key }) => key?.toString() === String(orderId) }),
      Effect.timeout("30 seconds")
    )
    yield* show(`topic ${config.paymentTopic}`, `${config.paymentTopic}/${partition}@${offset}: ${value?.toString()}`)
  })

  yield* Console.log(`\nThe saga of order ${orderId}, as seen from outside`)
  const reserved = yield* Clock.currentTimeMillis
  const event = { orderId, idempotentKey: randomUUID(), status: "COMPLETED" }
  const written = yield* writeReservation(event)
  yield* show(
    `topic ${written.topic}`,
    `${written.topic}/${written.partition}@${written.offset}: the order is reserved`
  )
  yield* showChange("CREATED", reserved)

  const paid = yield* Clock.currentTimeMillis
  yield* payments.updatePaymentStatus(orderId, "COMPLETED")
  yield* show("gRPC", `UpdatePaymentStatus: OK after ${(yield* Clock.currentTimeMillis) - paid} ms`)
  yield* showChange("COMPLETED", paid)
  return orderId
})

/**
 * Plays the saga of a new order once, and prints each step as seen on the topics, in the tables and over gRPC. Its
 * connections close with the scope. Returns the order.
 */
export const run = Effect.gen(function*() {
  const config = yield* readSettings(...Database.used)
  return yield* Effect.provide(play, Database.layer(config, 1))
})
