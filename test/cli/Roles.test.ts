import { Command } from "@effect/cli"
import * as NodeContext from "@effect/platform-node/NodeContext"
import { SqlClient } from "@effect/sql"
import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, Duration, Effect, Layer, Logger, Option, Redacted } from "effect"
import { randomUUID } from "node:crypto"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { inject } from "vitest"
import * as Report from "../../src/audit/Report.js"
import * as Audit from "../../src/cli/Audit.js"
import * as Calls from "../../src/cli/Calls.js"
import * as Doctor from "../../src/cli/Doctor.js"
import * as Order from "../../src/cli/Order.js"
import { rightsOf } from "../../src/cli/Rights.js"
import * as Saga from "../../src/cli/Saga.js"
import { serve } from "../../src/cli/Serve.js"
import { OrderId } from "../../src/domain/Payment.js"
import * as Postgres from "../../src/infra/postgres/Postgres.js"
import { Sequences } from "../../src/payments/Sequences.js"
import { eventually } from "../harness/Eventually.js"
import { freePort } from "../harness/FreePort.js"
import * as KafkaTest from "../harness/KafkaTest.js"
import * as PgTest from "../harness/PgTest.js"
import * as Tables from "../harness/Tables.js"

const everything = ["consumer", "relay", "grpc"] as const

/** The URL of a role without its password, and a file with it. */
const withoutPassword = Effect.fnUntraced(function*(role: "service" | "audit", databaseUrl: string) {
  const folder = yield* Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "roles-"))),
    (folder) => Effect.sync(() => rmSync(folder, { recursive: true }))
  )
  const url = new URL(PgTest.as(role, databaseUrl))
  const file = join(folder, "password")
  writeFileSync(file, `${url.password}\n`)
  url.password = ""
  return { DATABASE_URL: url.href, DATABASE_PASSWORD_FILE: file }
})

const run = (command: Command.Command<any, any, any, any>, ...args: ReadonlyArray<string>) =>
  Command.run(command, { name: "payments", version: "0" })(["node", "payments", ...args]) as Effect.Effect<
    void,
    { readonly message: string },
    NodeContext.NodeContext
  >

describe("the roles of sql/roles.sql", () => {
  it.scopedLive("the service has exactly the rights that its parts need, and sets sequences forward", () =>
    Effect.gen(function*() {
      const url = yield* PgTest.migratedDatabase
      const tables = yield* Tables.make(url)
      const granted = (role: string) =>
        tables.query<{ readonly name: string; readonly rights: ReadonlyArray<string> }>(
          `SELECT table_name AS name, array_agg(privilege_type::text ORDER BY privilege_type) AS rights
           FROM information_schema.role_table_grants WHERE grantee = $1 GROUP BY 1 ORDER BY 1`,
          [role]
        )
      const wanted = {
        ...rightsOf({ paymentExpiry: Option.some(Duration.seconds(3_600)) }, everything),
        payments_migrations: ["SELECT"]
      }
      assert.deepStrictEqual(
        yield* granted("payments_service"),
        Object.entries(wanted).map(([name, rights]) => ({ name, rights: [...rights].sort() }))
          .sort((a, b) => a.name < b.name ? -1 : 1)
      )
      for (const { rights } of yield* granted("payments_audit")) assert.deepStrictEqual(rights, ["SELECT"])

      yield* tables.query("INSERT INTO payment (id, order_id, status) VALUES (40, 40, 'CREATED')")
      const [taken] = yield* Effect.flatMap(Sequences, ({ check, prepare }) => Effect.zipRight(prepare, check)).pipe(
        Effect.provide(Layer.merge(
          Layer.provide(
            Sequences.Default,
            Postgres.layer({ url: Redacted.make(PgTest.as("service", url)), maxConnections: 1 })
          ),
          Logger.remove(Logger.defaultLogger)
        ))
      )
      assert.deepInclude(taken, { table: "payment", next: 41n, taken: undefined })
    }))

  it.scopedLive(
    "the service lives with its role, and audit, order and doctor with the one that reads",
    () =>
      Effect.gen(function*() {
        const url = yield* PgTest.migratedDatabase
        const tables = yield* Tables.make(url)
        const [inventory, dlq, payment] = yield* Effect.all([
          KafkaTest.freshTopic(),
          KafkaTest.freshTopic({ "max.message.bytes": String(2 * 1024 * 1024) }),
          KafkaTest.freshTopic()
        ], { concurrency: "unbounded" })
        const common = {
          REDIS_URL: inject("redisUrl"),
          KAFKA_BROKERS: inject("kafkaBrokers"),
          KAFKA_SESSION_TIMEOUT: "6s",
          INVENTORY_TOPIC: inventory,
          INVENTORY_DLQ_TOPIC: dlq,
          PAYMENT_TOPIC: payment,
          KAFKA_GROUP_ID: `group-${inventory}`,
          PAYMENT_EXPIRY: "1h",
          GRPC_ADDR: `127.0.0.1:${yield* freePort}`,
          HTTP_ADDR: `127.0.0.1:${yield* freePort}`,
          LOG_LEVEL: "Warning"
        }
        const as = (role: "service" | "audit") =>
          Effect.map(
            withoutPassword(role, url),
            (access) =>
              Effect.withConfigProvider(ConfigProvider.fromMap(new Map(Object.entries({ ...common, ...access }))))
          )
        const service = yield* as("service")
        const audit = yield* as("audit")

        const running = yield* serve([]).pipe(service, Effect.forkScoped)
        const orders = [7_001n, 7_002n]
        yield* Effect.forEach(
          orders,
          (orderId) =>
            service(
              Saga.writeReservation({
                orderId: OrderId.make(orderId),
                idempotentKey: randomUUID(),
                status: "COMPLETED"
              })
            )
        )
        const { updatePaymentStatus } = yield* service(Calls.client)
        yield* updatePaymentStatus(OrderId.make(orders[0]!), "COMPLETED").pipe(
          eventually("30 seconds"),
          Effect.raceFirst(running)
        )
        yield* updatePaymentStatus(OrderId.make(orders[1]!), "FAILED").pipe(eventually("10 seconds"))
        const done = tables.count("event WHERE status = 'DONE'")
        yield* Effect.flatMap(done, (n) => Effect.sync(() => assert.strictEqual(n, 4))).pipe(eventually("20 seconds"))

        const found = yield* audit(
          Audit.audited({ since: undefined, wait: Duration.seconds(20), order: undefined, examples: 5 })
        )
        assert.isUndefined(Report.verdict(found, { noResends: true, waited: true }))
        yield* audit(run(Order.command, String(orders[0])))
        yield* audit(run(Doctor.command, "--role", "payments_service"))
        // the role that reads is not the one of the service, and a role that does not exist is named
        assert.match((yield* Effect.flip(audit(run(Doctor.command)))).message, /1 finding/)
        assert.match((yield* Effect.flip(audit(run(Doctor.command, "--role", "nobody")))).message, /1 finding/)
        const written = yield* Effect.flip(
          Effect.flatMap(SqlClient.SqlClient, (sql) => Postgres.run("2 seconds")(sql`DELETE FROM event`)).pipe(
            Effect.provide(Postgres.layer({ url: Redacted.make(PgTest.as("audit", url)), maxConnections: 1 }))
          )
        )
        assert.match(written.message, /permission denied for table event \(role payments_audit/)
      }).pipe(Effect.provide(NodeContext.layer)),
    90_000
  )
})
