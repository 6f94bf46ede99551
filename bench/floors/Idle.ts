import { Kafka, logLevel } from "kafkajs"

// an idle consumer and producer of the unpatched library
const env = process.env as Record<string, string>
const kafka = new Kafka({ brokers: env["KAFKA_BROKERS"]!.split(","), logLevel: logLevel.NOTHING })
const consumer = kafka.consumer({ groupId: env["KAFKA_GROUP_ID"]! })
const producer = kafka.producer()

await producer.connect()
consumer.on(consumer.events.GROUP_JOIN, () => console.log("ready"))
await consumer.connect()
await consumer.subscribe({ topics: [env["INVENTORY_TOPIC"]!] })
await consumer.run({ eachMessage: () => Promise.resolve() })
