import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import kafkajs from "kafkajs"
import { readdirSync } from "node:fs"
import * as Calls from "../harness/Calls.js"
import { eventually } from "../harness/Eventually.js"
import * as Program from "../harness/Program.js"
import * as Topics from "../harness/Topics.js"
import * as World from "../harness/World.js"

const version = process.env["PROGRAM_NODE_VERSION"]!

/** A frame of zstd with its bytes as they are: RFC 8878, a single segment with one raw block of less than 128 KiB. */
const zstdFrame = (bytes: Buffer) => {
  const header = Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0, 0, 0, 0, 0, 0, 0])
  header.writeUInt32LE(bytes.length, 5)
  header.writeUIntLE((bytes.length << 3) | 1, 9, 3)
  return Buffer.concat([header, bytes])
}

kafkajs.CompressionCodecs[kafkajs.CompressionTypes.ZSTD] = () => ({
  compress: ({ buffer }: { readonly buffer: Buffer }) => Promise.resolve(zstdFrame(buffer)),
  decompress: () => Promise.reject(new Error("only the program reads these"))
})

/** Writes records to one partition, in one batch that is compressed with zstd. */
const writeCompressed = (world: World.World, values: ReadonlyArray<string>) =>
  Effect.acquireUseRelease(
    Effect.promise(async () => {
      const kafka = new kafkajs.Kafka({ clientId: "stranger", brokers: world.kafkaBrokers.split(",") })
      const producer = kafka.producer({ allowAutoTopicCreation: false })
      await producer.connect()
      return producer
    }),
    (producer) =>
      Effect.promise(() =>
        producer.send({
          topic: world.inventory,
          compression: kafkajs.CompressionTypes.ZSTD,
          messages: values.map((value) => ({ value, partition: 0 }))
        })
      ),
    (producer) => Effect.promise(() => producer.disconnect())
  )

describe.concurrent("the program under this Node", () => {
  it.scopedLive.each(
    [
      ["at-least-once", ["refuse", "2", "--json"], "\"status\":\"FAILED\""],
      ["exactly-once", ["audit", "--wait", "20s", "--json"], "\"clean\":true"]
    ] as const
  )(
    "%s: zstd records in, a call, records out, a command, a clean stop",
    ([delivery, command, expected]) =>
      Effect.gen(function*() {
        const world = yield* World.make()
        const topics = yield* Topics.make(world.kafkaBrokers)
        yield* topics.create(world.inventory, world.dlq, world.payment)
        const program = yield* Program.serve([], { ...world.env, OUTBOX_DELIVERY: delivery })
        yield* program.untilReady
        const published = yield* topics.follow(world.payment)
        const statuses = (orders: Record<string, ReadonlyArray<string>>) =>
          Effect.sync(() => {
            const bodies = published.map(Topics.body)
            for (const [order, all] of Object.entries(orders)) {
              assert.deepStrictEqual(
                bodies.filter(({ order_id }) => String(order_id) === order).map(({ status }) => status),
                all
              )
            }
          }).pipe(eventually("40 seconds"))

        yield* writeCompressed(world, [Topics.reserved(1), Topics.reserved(2), "no event"])
        yield* statuses({ 1: ["CREATED"], 2: ["CREATED"] })
        const calls = yield* Calls.make(program.grpc)
        assert.strictEqual((yield* calls.pay(1)).code, "OK")
        yield* statuses({ 1: ["CREATED", "COMPLETED"] })
        assert.strictEqual(yield* program.metric("payments_dead_letters_total"), 1)
        const env = { ...world.env, GRPC_ADDR: program.grpc }
        const { code, stderr, stdout } = yield* Program.run(command, env)
        assert.deepStrictEqual([code, stderr], [0, ""])
        assert.include(stdout, expected)

        assert.strictEqual(yield* program.metric("payments_service_restarts_total"), 0, program.stderr())
        yield* program.signal("SIGTERM")
        assert.deepStrictEqual(yield* program.ended, { code: 0, signal: null }, program.stderr())
        assert.notMatch(program.stderr(), /Warning:/)
        if (Number.parseInt(version) >= 22) {
          assert.isTrue(
            readdirSync("dist/compiled").some((name) => name.startsWith(`v${version}-`)),
            "no compiled code"
          )
        }
      })
  )
})
