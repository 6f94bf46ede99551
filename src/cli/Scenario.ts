import type { SqlError } from "@effect/sql"
import { SqlClient } from "@effect/sql"
import { Clock, Console, Effect, Schedule } from "effect"
import { randomUUID } from "node:crypto"
import { readSettings } from "../Config.js"
import { OrderId } from "../domain/Payment.js"
import * as KafkaTail from "../infra/kafka/KafkaTail.js"
import * as Postgres from "../infra/postgres/Postgres.js"
import { client, writeReservation } from "./Saga.js"
import { kafkaOptions } from "./Services.js"

/** Looks until there is something to see. */
const observe = <A>(look: Effect.Effect<ReadonlyArray<A>, SqlError.SqlError>) =>
  look.pipe(
    Effect.flatMap((rows) => rows.length === 0 ? Effect.fail("not yet" as const) : Effect.succeed(rows[0]!)),
    Effect.retry(Schedule.spaced("5 millis")),
    Effect.timeout("30 seconds")
  )

const say = (what: string, seen: string) => Console.log(`  ${what.padEnd(20)}${seen}`)

/** 111 as in the brief, then the next that is free. */
const nextOrder = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const [row] = yield* sql<{ readonly next: string }>`
    SELECT coalesce(max(order_id) + 1, 111) AS next FROM payment WHERE order_id BETWEEN 111 AND 999999999
  `
  return OrderId.make(BigInt(row!.next))
})

const play = Effect.gen(function*() {
  const config = yield* readSettings("kafkaBrokers", "kafkaClientId", "paymentTopic")
  const sql = yield* SqlClient.SqlClient
  const orderId = yield* nextOrder
  const records = yield* KafkaTail.open({ ...kafkaOptions(config), topic: config.paymentTopic, from: "end" })
  const payments = yield* client

  const seeChange = Effect.fnUntraced(function*(status: "CREATED" | "COMPLETED", since: number) {
    yield* observe(sql`SELECT id FROM payment WHERE order_id = ${orderId} AND status = ${status}::payment_status`)
    yield* say("table payment", `${status} after ${(yield* Clock.currentTimeMillis) - since} ms`)
    const event = yield* observe(sql<{ readonly id: string; readonly millis: number }>`
      SELECT id, round(extract(epoch FROM done_at - created_at) * 1000)::int AS millis FROM event
      WHERE order_id = ${orderId} AND status = 'DONE' AND payload::jsonb ->> 'status' = ${status}
    `)
    yield* say("table event", `event ${event.id} WAIT, and DONE ${event.millis} ms later`)
    const { offset, partition, value } = yield* records.take.pipe(
      Effect.repeat({ until: ({ key }) => key?.toString() === String(orderId) }),
      Effect.timeout("30 seconds")
    )
    yield* say(`topic ${config.paymentTopic}`, `${config.paymentTopic}/${partition} at ${offset}: ${value?.toString()}`)
  })

  yield* Console.log(`\nThe saga of order ${orderId}, as seen from outside`)
  const reserved = yield* Clock.currentTimeMillis
  const event = { orderId, idempotentKey: randomUUID(), status: "COMPLETED" }
  const place = yield* writeReservation(event)
  yield* say(`topic ${place.topic}`, `${place.topic}/${place.partition} at ${place.offset}: the order is reserved`)
  yield* seeChange("CREATED", reserved)

  const paid = yield* Clock.currentTimeMillis
  yield* payments.updatePaymentStatus(orderId, "COMPLETED")
  yield* say("gRPC", `UpdatePaymentStatus: OK after ${(yield* Clock.currentTimeMillis) - paid} ms`)
  yield* seeChange("COMPLETED", paid)
  return orderId
})

/**
 * Plays the saga of a new order once, and prints each step as it is seen from outside: on the topics, in the tables
 * and through gRPC. What it has open is closed with the scope.
 */
export const run = Effect.gen(function*() {
  const { databaseUrl } = yield* readSettings("databaseUrl")
  return yield* Effect.provide(play, Postgres.layer({ url: databaseUrl, maxConnections: 1 }))
})
