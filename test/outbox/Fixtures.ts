import { SqlClient } from "@effect/sql"
import { Duration, Effect, Layer, Logger } from "effect"
import { OrderId } from "../../src/domain/Payment.js"
import * as PaymentEvent from "../../src/domain/PaymentEvent.js"
import * as RecordTime from "../../src/infra/kafka/RecordTime.js"
import { Keeper } from "../../src/infra/runtime/HealthPart.js"
import { BrokerContact } from "../../src/outbox/BrokerContact.js"
import * as EventRecord from "../../src/outbox/EventRecord.js"
import { Outbox } from "../../src/outbox/Outbox.js"
import type { OutboxEvent } from "../../src/outbox/OutboxEvent.js"
import { OutboxWake } from "../../src/outbox/OutboxWake.js"
import { Refusals } from "../../src/outbox/Refusals.js"
import { Spreads } from "../../src/outbox/Spreads.js"
import * as PgTest from "../harness/PgTest.js"

export const options = { topic: "payment", lease: "30 seconds", maxAttempts: 3 } as const

const monotonic = () => Number(process.hrtime.bigint() / 1_000_000n)

/** A part of its own, and why it waits now. */
export const part = () => {
  const keeper = new Keeper("test", { roles: [] }, monotonic, Date.now())
  return Object.assign(keeper, { why: () => keeper.waits(monotonic())[0]?.why })
}

/** A part that calls `working` when its work succeeds. */
export const partThat = (working: () => void) => ({ ...part(), working })

/** Topics of tests have so many partitions, and get no more. */
const spread = { partitions: 4 }

export const record = (event: OutboxEvent) => EventRecord.make(event, spread)

const outbox = Outbox.Default(options).pipe(
  Layer.provideMerge(Refusals.Default),
  Layer.provideMerge(OutboxWake.layerLocal),
  Layer.provideMerge(
    Layer.succeed(
      Spreads,
      Spreads.make({ of: () => spread, watch: () => Effect.never })
    )
  ),
  // the real one counts answers of the brokers, and these tests ask them for none
  Layer.provideMerge(
    Layer.succeed(BrokerContact, BrokerContact.make({ answered: () => undefined, isLost: Effect.succeed(false) }))
  )
)

/** A database of its own, and an outbox over it with the rights of the service. */
export const layer = Layer.provideMerge(outbox, PgTest.layerService)

/** The same with the rights of the administrator, for commands that the owner runs. */
export const layerOwner = Layer.provideMerge(outbox, PgTest.layerOwner)

/** Empties the outbox. */
export const clear = PgTest.asAdministrator(Effect.flatMap(SqlClient.SqlClient, (sql) => sql`TRUNCATE event`))

const keys = { next: 0 }

/** Writes events, one for each of the orders given, as a use case would. Answers their ids. */
export const append = Effect.fn(function*(
  orders: ReadonlyArray<number>,
  { status = "CREATED", topic = "payment" }: { readonly status?: "CREATED" | "COMPLETED"; readonly topic?: string } = {}
) {
  const sql = yield* SqlClient.SqlClient
  const payloads = orders.map((order) =>
    PaymentEvent.encode({
      idempotentKey: `00000000-0000-4000-8000-${String(keys.next++).padStart(12, "0")}`,
      orderId: OrderId.make(BigInt(order)),
      status
    })
  )
  const rows = yield* sql<{ readonly id: string }>`
    INSERT INTO event (topic, order_id, payload)
    SELECT ${topic}, * FROM unnest(${orders}::bigint[], ${payloads}::text[])
    RETURNING id
  `
  return rows.map((_) => _.id)
})

export const statusOf = Effect.fn(function*(id: string) {
  const sql = yield* SqlClient.SqlClient
  const [row] = yield* sql<{
    readonly status: string
    readonly attempts: number
    readonly last_error: string | null
    readonly delay: number | null
  }>`
    SELECT status, attempts, last_error, extract(epoch FROM reserved_to - clock_timestamp())::float8 AS delay
    FROM event WHERE id = ${id}
  `
  return row!
})

/** Ends all leases. */
export const expireLeases = Effect.flatMap(
  SqlClient.SqlClient,
  (sql) => sql`UPDATE event SET reserved_to = clock_timestamp() - interval '1 second' WHERE reserved_to IS NOT NULL`
)

/** Lines that the layer logs, but for debug. */
export const logs = () => {
  const lines: Array<string> = []
  const logger = Logger.make(({ logLevel, message }) => {
    if (logLevel.label !== "DEBUG") lines.push(Array.isArray(message) ? message.join(" ") : String(message))
  })
  return [lines, Logger.replace(Logger.defaultLogger, logger)] as const
}

const now = Effect.sync(() => RecordTime.follow(Date.now(), performance.now()))

/** The clock of the database is so far ahead of the clocks of the brokers, until the scope closes. */
export const databaseAhead = (time: Duration.DurationInput) =>
  Effect.acquireRelease(
    Effect.sync(() => RecordTime.follow(Date.now() + Duration.toMillis(time), performance.now())),
    () => now
  )
