import { Redis } from "ioredis"
import { Kafka, logLevel } from "kafkajs"
import { randomUUID } from "node:crypto"
import * as Pg from "pg"

const env = process.env as Record<string, string>
const pool = new Pg.Pool({ connectionString: env["DATABASE_URL"]!, max: 10 })
const redis = new Redis(env["REDIS_URL"]!)
const kafka = new Kafka({ brokers: env["KAFKA_BROKERS"]!.split(","), logLevel: logLevel.NOTHING })
const consumer = kafka.consumer({ groupId: env["KAFKA_GROUP_ID"]!, maxWaitTimeInMs: 500 })
const ttl = 7 * 24 * 3600

interface Reservation {
  readonly idempotent_key: string
  readonly order_id: number
  readonly status: string
}

const nameOf = (key: string) => `payments:inventory:${key}`
const payloadOf = (order: number) => `{"idempotent_key":"${randomUUID()}","order_id":${order},"status":"CREATED"}`
const eventOf = "INSERT INTO event (topic, order_id, payload) "

const one = async ({ idempotent_key, order_id, status }: Reservation) => {
  if (status !== "COMPLETED") return
  if ((await redis.set(nameOf(idempotent_key), order_id, "EX", ttl, "NX")) === null) return
  const client = await pool.connect()
  try {
    await client.query("BEGIN")
    const { rowCount } = await client.query(
      "INSERT INTO payment (order_id, status, inventory_key) VALUES ($1, 'CREATED', $2) ON CONFLICT DO NOTHING",
      [order_id, idempotent_key]
    )
    if (rowCount === 1) {
      await client.query(`${eventOf} VALUES ('payment', $1, $2)`, [order_id, payloadOf(order_id)])
    }
    await client.query("COMMIT")
  } finally {
    client.release()
  }
}

const many = async (reservations: ReadonlyArray<Reservation>) => {
  const accepted = reservations.filter(({ status }) => status === "COMPLETED")
  const seen = await redis.mget(accepted.map((_) => nameOf(_.idempotent_key)))
  const fresh = accepted.filter((_, i) => seen[i] === null)
  if (fresh.length === 0) return
  await pool.query({
    name: "create",
    text: `
      WITH input AS (
        SELECT * FROM unnest($1::bigint[], $2::uuid[], $3::text[]) AS t (order_id, inventory_key, payload)
      ), created AS (
        INSERT INTO payment (order_id, status, inventory_key) SELECT order_id, 'CREATED', inventory_key FROM input
        ON CONFLICT DO NOTHING RETURNING order_id
      )
      ${eventOf} SELECT 'payment', order_id, payload FROM created JOIN input USING (order_id)
    `,
    values: [
      fresh.map((_) => _.order_id),
      fresh.map((_) => _.idempotent_key),
      fresh.map((_) => payloadOf(_.order_id))
    ]
  })
  const pipeline = redis.pipeline()
  for (const { idempotent_key, order_id } of fresh) pipeline.set(nameOf(idempotent_key), order_id, "EX", ttl)
  await pipeline.exec()
}

consumer.on(consumer.events.GROUP_JOIN, () => console.log("ready"))
await consumer.connect()
await consumer.subscribe({ topics: [env["INVENTORY_TOPIC"]!], fromBeginning: true })
await consumer.run(
  process.argv[2] === "naive"
    ? {
      partitionsConsumedConcurrently: 4,
      eachMessage: ({ message }) => one(JSON.parse(String(message.value)) as Reservation)
    }
    : {
      partitionsConsumedConcurrently: 4,
      eachBatchAutoResolve: false,
      eachBatch: async ({ batch: { messages }, heartbeat, resolveOffset }) => {
        for (let i = 0; i < messages.length; i += 500) {
          const chunk = messages.slice(i, i + 500)
          await many(chunk.map(({ value }) => JSON.parse(String(value)) as Reservation))
          resolveOffset(chunk.at(-1)!.offset)
          await heartbeat()
        }
      }
    }
)
