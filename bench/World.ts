import { execFile } from "node:child_process"
import { promisify } from "node:util"
import * as Pg from "pg"
import type { Servers } from "./Stack.js"
import type { Environment } from "./Subject.js"
import { ours } from "./Subject.js"
import type { Topics } from "./Topics.js"

/** A database, topics and a group for one run. */
export interface World {
  readonly inventory: string
  readonly payment: string
  readonly group: string
  readonly env: Environment
  readonly query: <A extends object>(statement: string, values?: ReadonlyArray<unknown>) => Promise<ReadonlyArray<A>>
  readonly drop: () => Promise<void>
}

const urlOf = (servers: Servers, database: string) => {
  const url = new URL(servers.databaseUrl)
  url.pathname = `/${database}`
  return url.href
}

/** Runs a statement outside of any world. */
export const administer = async <A extends object>(servers: Servers, statement: string): Promise<ReadonlyArray<A>> => {
  const client = new Pg.Client(servers.databaseUrl)
  await client.connect()
  try {
    return (await client.query<A>(statement)).rows
  } finally {
    await client.end()
  }
}

/** Template databases, which the worlds copy. */
export type Template = "bench_empty" | "bench_history"

/** An empty migrated database. */
export const prepare = async (servers: Servers) => {
  await administer(servers, "CREATE DATABASE bench_empty")
  const [program] = ours().args
  await promisify(execFile)(process.execPath, [program!, "migrate"], {
    env: { PATH: process.env["PATH"], DATABASE_URL: urlOf(servers, "bench_empty") }
  })
}

/** The first order id of the history. */
export const historyFrom = 1_000_000_000

/** Ten million settled payments and five million sent events, of orders that no call names again. */
export const prepareHistory = async (servers: Servers) => {
  await administer(servers, "CREATE DATABASE bench_history TEMPLATE bench_empty")
  const history = { ...servers, databaseUrl: urlOf(servers, "bench_history") }
  const inTurn = async (...statements: ReadonlyArray<string>) => {
    for (const statement of statements) await administer(history, statement)
  }
  await Promise.all([
    inTurn(
      // creating the indexes afterwards is faster than row by row
      "ALTER TABLE payment DROP CONSTRAINT payment_order_id_key, DROP CONSTRAINT payment_inventory_key_key",
      `INSERT INTO payment (order_id, status, inventory_key)
       SELECT ${historyFrom} + n, 'COMPLETED', gen_random_uuid() FROM generate_series(1, 10000000) AS n`,
      "ALTER TABLE payment ADD UNIQUE (order_id), ADD UNIQUE (inventory_key)",
      "VACUUM ANALYZE payment"
    ),
    inTurn(
      `INSERT INTO event (topic, order_id, payload, status, done_at)
       SELECT 'payment', n, format('{"idempotent_key":"%s","order_id":%s,"status":"COMPLETED"}', gen_random_uuid(), n),
              'DONE', clock_timestamp()
       FROM generate_series(${historyFrom} + 1, ${historyFrom} + 5000000) AS n`,
      "VACUUM ANALYZE event"
    )
  ])
}

let worlds = 0

export const make = async (servers: Servers, topics: Topics, template: Template): Promise<World> => {
  const id = `bench_${process.pid}_${++worlds}`
  const databaseUrl = urlOf(servers, id)
  const [inventory, dlq, payment] = [`inventory-${id}`, `dlq-${id}`, `payment-${id}`] as const
  await administer(servers, `CREATE DATABASE ${id} TEMPLATE ${template} STRATEGY FILE_COPY`)
  await topics.create(inventory, dlq, payment)
  const pool = new Pg.Pool({ connectionString: databaseUrl, max: 2 }).on("error", () => {})
  if (template === "bench_history") {
    // as where the server has run for a while: the index into which keys are written anywhere is in memory. Without a limit
    // the planner drops the order, and reads the table
    await pool.query(
      "SELECT count(*) FROM (SELECT inventory_key FROM payment ORDER BY inventory_key LIMIT 10000000) AS keys"
    )
  }
  return {
    inventory,
    payment,
    group: id,
    env: {
      DATABASE_URL: databaseUrl,
      REDIS_URL: servers.redisUrl,
      KAFKA_BROKERS: servers.brokers,
      INVENTORY_TOPIC: inventory,
      INVENTORY_DLQ_TOPIC: dlq,
      PAYMENT_TOPIC: payment,
      KAFKA_GROUP_ID: id,
      ...servers.env
    },
    query: async (statement, values = []) => (await pool.query(statement, [...values])).rows,
    drop: async () => {
      await pool.end()
      await administer(servers, `DROP DATABASE ${id} WITH (FORCE)`)
    }
  }
}
