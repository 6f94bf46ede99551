import { Kafka, logLevel, Partitioners } from "kafkajs"
import * as Pg from "pg"

const env = process.env as Record<string, string>
const topic = env["PAYMENT_TOPIC"]!
const pool = new Pg.Pool({ connectionString: env["DATABASE_URL"]!, max: 10 })
const kafka = new Kafka({ brokers: env["KAFKA_BROKERS"]!.split(","), logLevel: logLevel.NOTHING })
const producer = kafka.producer({
  idempotent: true,
  maxInFlightRequests: 1,
  createPartitioner: Partitioners.DefaultPartitioner
})

interface Row {
  readonly id: string
  readonly order_id: string
  readonly payload: string
}

const messageOf = ({ id, order_id, payload }: Row) => ({ key: order_id, value: payload, headers: { "event-id": id } })

/** One event, one send, one transaction. */
const one = async () => {
  const client = await pool.connect()
  try {
    await client.query("BEGIN")
    const { rows: [row] } = await client.query<Row>(
      "SELECT id, order_id, payload FROM event WHERE status = 'WAIT' ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED"
    )
    if (row !== undefined) {
      await producer.send({ topic, acks: -1, messages: [messageOf(row)] })
      await client.query("UPDATE event SET status = 'DONE', done_at = clock_timestamp() WHERE id = $1", [row.id])
    }
    await client.query("COMMIT")
    return row === undefined ? 0 : 1
  } finally {
    client.release()
  }
}

/** 500 events: one statement that leases them, one send, one statement that marks them. */
const many = async () => {
  const { rows } = await pool.query<Row>({
    name: "claim",
    text: `
      WITH due AS MATERIALIZED (
        SELECT id FROM event
        WHERE status = 'WAIT' AND (reserved_to IS NULL OR reserved_to <= clock_timestamp())
        ORDER BY id LIMIT 500 FOR UPDATE SKIP LOCKED
      )
      UPDATE event SET reserved_to = clock_timestamp() + interval '30 seconds' FROM due WHERE event.id = due.id
      RETURNING event.id, order_id, payload
    `
  })
  if (rows.length === 0) return 0
  rows.sort((a, b) => Number(a.id) - Number(b.id))
  await producer.send({ topic, acks: -1, messages: rows.map(messageOf) })
  await pool.query({
    name: "mark",
    text: "UPDATE event SET status = 'DONE', done_at = clock_timestamp() WHERE id = ANY($1::bigint[])",
    values: [rows.map(({ id }) => id)]
  })
  return rows.length
}

const turn = process.argv[2] === "naive" ? one : many
await producer.connect()
await turn()
console.log("ready")
for (;;) if ((await turn()) === 0) await new Promise((resolve) => setTimeout(resolve, 20))
