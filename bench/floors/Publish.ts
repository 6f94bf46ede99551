import { Kafka, logLevel, Partitioners } from "kafkajs"
import { randomUUID } from "node:crypto"
import * as Pg from "pg"

// a bare commit and a bare send: WARM of them as fast as possible, then COUNT at RATE a second; the lower bound
const env = process.env as Record<string, string>
const topic = env["PAYMENT_TOPIC"]!
const pool = new Pg.Pool({ connectionString: env["DATABASE_URL"]!, max: 10 })
const kafka = new Kafka({ brokers: env["KAFKA_BROKERS"]!.split(","), logLevel: logLevel.NOTHING })
// sends do not wait for each other
const producer = kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner })

const one = async (order: number) => {
  const payload = `{"idempotent_key":"${randomUUID()}","order_id":${order},"status":"COMPLETED"}`
  await pool.query({
    name: "append",
    text: "INSERT INTO event (topic, order_id, payload) VALUES ($1, $2, $3)",
    values: [topic, order, payload]
  })
  await producer.send({ topic, acks: -1, messages: [{ key: String(order), value: payload }] })
}

await producer.connect()
await pool.query("SELECT 1")
console.log("ready")
const [warm, rate, count] = [Number(env["WARM"]), Number(env["RATE"]), Number(env["COUNT"])]
for (let order = 1; order <= warm; order += 10) {
  await Promise.all(Array.from({ length: 10 }, (_, i) => one(order + i)))
}
const began = performance.now()
for (let n = 1; n <= count; n++) {
  const due = began + (n * 1000) / rate
  await new Promise((resolve) => setTimeout(resolve, Math.max(0, due - performance.now())))
  void one(warm + n)
}
