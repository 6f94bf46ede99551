import { assert, layer } from "@effect/vitest"
import { Effect, FastCheck as fc, Layer } from "effect"
import type { IHeaders, Message } from "kafkajs"
import { isUtf8 } from "node:buffer"
import { randomUUID } from "node:crypto"
import * as Oracle from "../../domain/Oracle.js"
import { eventually } from "../../harness/Eventually.js"
import * as Program from "../../harness/Program.js"
import { nullHeader } from "../../harness/StockKafkajs.js"
import * as Tables from "../../harness/Tables.js"
import * as Topics from "../../harness/Topics.js"
import * as World from "../../harness/World.js"
import { bound } from "../Bounds.js"
import * as Seed from "../Seed.js"
import type { Stranger } from "./KafkaRecords.js"
import { named, secret, stranger } from "./KafkaRecords.js"

const strangers = bound({ standard: 4_000, large: 12_000 })
const partitions = 4

/** What the contract makes of a value. A byte order mark is no part of the text. */
const expected = (value: Buffer | null) =>
  value === null || !isUtf8(value) ? undefined : Oracle.expected(value.toString().replace(/^\ufeff/, ""))

/** Headers as they are on the wire, whatever the client of the broker makes of names that every object has. */
const wire = (headers: IHeaders): string =>
  JSON.stringify(
    Object.entries(headers).filter(([name]) => !name.startsWith("dlq-")).map(([name, value]) => [
      name,
      [value].flat().filter((_) => _ === null || Buffer.isBuffer(_)).map((_) =>
        _ === null || _ === nullHeader ? null : (_ as Buffer).toString("hex")
      )
    ]).sort()
  )

layer(Layer.empty, { excludeTestServices: true })("P7 P13: records from strangers", (it) => {
  it.scoped(
    `${strangers} of them, with good ones between: each gets its result, and no order is delayed`,
    () =>
      Effect.gen(function*() {
        const seed = Seed.chosen()
        const world = yield* World.make()
        const topics = yield* Topics.make(world.kafkaBrokers)
        yield* topics.create(world.inventory)
        const program = yield* Program.serve(["consumer"], { ...world.env, KAFKA_CREATE_TOPICS: "true" })
        yield* program.untilReady
        const tables = yield* Tables.make(world.databaseUrl)

        const good = (): Stranger => ({
          key: null,
          value: Buffer.from(Topics.reserved(BigInt(`0x${randomUUID().slice(0, 13).replace("-", "")}`) + 1n)),
          headers: {}
        })
        const sampled = fc.sample(stranger, { numRuns: strangers, seed })
        // by partition, in their order: where a record stands is known from its place
        const written: ReadonlyArray<Array<Stranger>> = Array.from({ length: partitions }, () => [])
        ;[...Object.values(named), ...sampled].forEach((one, i) => {
          written[i % partitions]!.push(one, ...i % 8 < partitions ? [good()] : [])
        })

        const through = Effect.gen(function*() {
          const [committed, ends] = yield* Effect.all([
            topics.committed(world.group, world.inventory),
            topics.ends(world.inventory)
          ])
          for (const { high, partition } of ends) {
            assert.strictEqual(committed.get(partition), Number(high), `partition ${partition}, seed ${seed}`)
          }
        }).pipe(eventually("60 seconds", "200 millis"))
        const rss = program.metric("payments_process_resident_memory_bytes")

        let warm = 0
        const chunk = 500
        for (let from = 0; written.some((_) => _.length > from); from += chunk) {
          for (const [partition, records] of written.entries()) {
            const next = records.slice(from, from + chunk)
            // the large ones need a request of their own
            const groups = [next.filter((_) => (_.value?.length ?? 0) < 1e5)]
            if (next.length !== groups[0]!.length) groups.splice(0, 1, ...next.map((_) => [_]))
            for (const group of groups) {
              if (group.length > 0) {
                yield* topics.writeAll(world.inventory, partition, group as unknown as Array<Message>)
              }
            }
          }
          if (from === chunk) {
            yield* through
            warm = yield* rss
          }
        }
        yield* through

        const all = written.flatMap((records, partition) =>
          records.map((record, offset) => ({ record, place: `${partition}/${offset}`, event: expected(record.value) }))
        )
        const accepted = new Map<string, Set<string>>()
        for (const { event } of all) {
          if (event?.status !== "COMPLETED") continue
          const order = String(event.orderId)
          accepted.set(order, (accepted.get(order) ?? new Set()).add(event.idempotentKey))
        }
        const payments = yield* tables.query<{ readonly order_id: string; readonly inventory_key: string }>(
          "SELECT order_id, inventory_key FROM payment"
        )
        assert.strictEqual(payments.length, accepted.size, `payments, seed ${seed}`)
        for (const { inventory_key, order_id } of payments) {
          assert.isTrue(accepted.get(order_id)?.has(inventory_key), `payment of order ${order_id}, seed ${seed}`)
        }
        assert.strictEqual(yield* tables.count("event"), accepted.size)

        const malformed = new Map(
          all.flatMap(({ event, place, record }) => event === undefined ? [[place, record]] : [])
        )
        const letters = yield* topics.follow(world.dlq)
        yield* Effect.sync(() => assert.isAtLeast(letters.length, malformed.size)).pipe(eventually("30 seconds"))
        const ends = yield* topics.ends(world.dlq)
        assert.strictEqual(
          ends.reduce((sum, { high }) => sum + Number(high), 0),
          malformed.size,
          `letters, seed ${seed}`
        )
        for (const { headers, key, value } of letters) {
          const place = `${String(headers["dlq-partition"])}/${String(headers["dlq-offset"])}`
          const original = malformed.get(place)
          const say = (what: string) => `${what} of the letter from ${place}, seed ${seed}`
          assert.isTrue(malformed.delete(place), say("place"))
          assert.strictEqual(String(headers["dlq-topic"]), world.inventory)
          assert.match(String(headers["dlq-reason"]), /^[a-zA-Z_0-9 ]{5,60}$/)
          assert.strictEqual(value?.toString("base64"), original!.value?.toString("base64"), say("value"))
          assert.strictEqual(key?.toString("hex"), original!.key?.toString("hex"), say("key"))
          assert.strictEqual(wire(headers), wire(original!.headers), say("headers"))
        }
        assert.strictEqual(malformed.size, 0)
        assert.isAtLeast(letters.length, strangers * 0.8, "too few records are malformed")

        assert.strictEqual(yield* program.metric("payments_service_restarts_total"), 0)
        const grown = ((yield* rss) - warm) / 2 ** 20
        assert.isBelow(grown, 150, "MiB that the program grew by")
        const log = program.stdout() + program.stderr()
        assert.isFalse(log.includes(secret), "a payload is in the log")
        process.stdout.write(
          `seed ${seed}: ${all.length} records, ${accepted.size} payments, ${letters.length} dead letters, ` +
            `${grown.toFixed(0)} MiB more than after the warm-up\n`
        )
      }),
    240_000
  )
})
