import { SqlClient } from "@effect/sql"
import * as Grpc from "@grpc/grpc-js"
import { Deferred, Effect, Fiber, Layer, Logger, Redacted } from "effect"
import type { OrderId } from "../../src/domain/Payment.js"
import * as PaymentsApi from "../../src/grpc/PaymentsApi.js"
import * as PaymentsClient from "../../src/grpc/PaymentsClient.js"
import * as Postgres from "../../src/infra/postgres/Postgres.js"
import { Health } from "../../src/infra/runtime/Health.js"
import * as Parts from "../../src/ops/Parts.js"
import { Outbox } from "../../src/outbox/Outbox.js"
import { OutboxWake } from "../../src/outbox/OutboxWake.js"
import { PaymentRepo } from "../../src/payments/PaymentRepo.js"
import { Payments } from "../../src/payments/Payments.js"
import * as PgTest from "../harness/PgTest.js"

const outbox = Outbox.Default({ topic: "payment", lease: "30 seconds", maxAttempts: 10 })

/** The services of the server, on the given SqlClient. */
export const services = Layer.mergeAll(
  Payments.Default.pipe(
    Layer.provide(PaymentRepo.Default),
    Layer.provide(outbox),
    Layer.provide(OutboxWake.layerLocal)
  ),
  // no migrations run here
  Layer.effectDiscard(Effect.map(Health, (health) => health.part("migrations").working())).pipe(
    Layer.provideMerge(Parts.layer({ running: ["grpc"], rights: {} }))
  ),
  Logger.remove(Logger.defaultLogger)
)

/** The database of this test, through another port. */
export const postgresAt = (port: number) =>
  Layer.unwrapEffect(Effect.map(PgTest.DatabaseUrl, (databaseUrl) => {
    const url = new URL(databaseUrl)
    url.host = `127.0.0.1:${port}`
    return Postgres.layer({ url: Redacted.make(url.href), maxConnections: 5, connectTimeoutMillis: 1_000 })
  }))

/** A server on a free port, and a client of it that makes each call once. */
export const start = (
  options: Omit<PaymentsApi.PaymentsApiOptions, "address" | "listening"> = {},
  of: PaymentsClient.PaymentsClientOptions = {}
) =>
  Effect.gen(function*() {
    const bound = yield* Deferred.make<number>()
    const server = yield* PaymentsApi.serve({
      ...options,
      address: "127.0.0.1:0",
      listening: (port) => Deferred.succeed(bound, port)
    }).pipe(Effect.forkScoped)
    const port = yield* Effect.raceFirst(Deferred.await(bound), Fiber.join(server))
    const address = `127.0.0.1:${port}`
    const client = yield* PaymentsClient.make({ host: "127.0.0.1", port }, { retries: false, ...of })
    return { address, client, port, server }
  })

/** An order whose payment is CREATED. */
export const reserve = (orderId: bigint) =>
  Effect.flatMap(
    SqlClient.SqlClient,
    (sql) =>
      sql`INSERT INTO payment (order_id, status) VALUES (${orderId}, 'CREATED')`.pipe(Effect.as(orderId as OrderId))
  )

export const eventsOf = (orderId: bigint) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) =>
    sql<{ readonly payload: string; readonly traceparent: string | null }>`
      SELECT payload, traceparent FROM event WHERE order_id = ${orderId} ORDER BY id
    `)

/** Holds the row of an order until it is released. */
export const lock = (orderId: bigint) =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const held = yield* Deferred.make<void>()
    const release = yield* Deferred.make<void>()
    const holder = yield* sql`SELECT FROM payment WHERE order_id = ${orderId} FOR UPDATE`.pipe(
      Effect.zipRight(Deferred.succeed(held, undefined)),
      Effect.zipRight(Deferred.await(release)),
      sql.withTransaction,
      Effect.forkScoped
    )
    yield* Deferred.await(held)
    return { release: Effect.zipRight(Deferred.succeed(release, undefined), Fiber.join(holder)) }
  })

/** Number of other open transactions in this database. */
export const transactions = Effect.flatMap(SqlClient.SqlClient, (sql) =>
  Effect.map(
    sql`
      SELECT FROM pg_stat_activity
      WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL
    `,
    (rows) => rows.length
  ))

/** A call with raw message bytes. Returns its failure; null when it succeeds. */
const failure = (address: string, method: string, message: Uint8Array) =>
  Effect.acquireUseRelease(
    Effect.sync(() => new Grpc.Client(address, Grpc.credentials.createInsecure())),
    (client) =>
      Effect.async<Grpc.ServiceError | null>((resume) => {
        const bytes = (buffer: Buffer) => buffer
        client.makeUnaryRequest(
          `/paymentsapi.PaymentsApi/${method}`,
          bytes,
          bytes,
          Buffer.from(message),
          (error) => resume(Effect.succeed(error))
        )
      }),
    (client) => Effect.sync(() => client.close())
  )

/** A call with raw message bytes. Returns the name of its code. */
export const raw = (address: string, method: string, message: Uint8Array) =>
  Effect.map(failure(address, method, message), (error) => Grpc.status[error?.code ?? Grpc.status.OK]!)

/** A call with raw message bytes that is refused. Returns the trailer `grpc-status-details-bin`. */
export const detailsOf = (address: string, method: string, message: Uint8Array) =>
  Effect.map(failure(address, method, message), (error) => error!.metadata.get("grpc-status-details-bin")[0] as Buffer)
