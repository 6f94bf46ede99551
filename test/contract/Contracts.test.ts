import { assert, describe, it } from "@effect/vitest"
import type { ValidateFunction } from "ajv"
import { Ajv } from "ajv"
import { Either } from "effect"
import { readFileSync } from "node:fs"
import { parse } from "yaml"
import * as InventoryEvent from "../../src/domain/InventoryEvent.js"
import { OrderId } from "../../src/domain/Payment.js"
import * as PaymentEvent from "../../src/domain/PaymentEvent.js"
import * as DeadLetter from "../../src/inventory/DeadLetter.js"

const inCheckout = (path: string) => new URL(`../../${path}`, import.meta.url)
const text = (path: string) => readFileSync(inCheckout(path), "utf8")

const ajv = new Ajv({ formats: { uuid: true, int64: true }, strict: true, allErrors: true })
const schemas = {
  inventory: ajv.compile(JSON.parse(text("docs/schemas/inventory.json"))),
  payment: ajv.compile(JSON.parse(text("docs/schemas/payment.json")))
}

/** A record as a broker had it. */
interface Recorded {
  readonly topic: keyof typeof schemas
  readonly key: string | null
  readonly value: string
  readonly headers: Readonly<Record<string, string>>
}

/** Recorded from a broker: an order that was paid, and one that was refused. */
const recorded = text("test/contract/records.jsonl").trimEnd().split("\n").map((line): Recorded => JSON.parse(line))

const { DeadLetter: letter, PaymentEvent: event } = parse(text("docs/asyncapi.yaml")).components.messages
const headers = { event: ajv.compile(event.headers), letter: ajv.compile(letter.headers) }

const isValid = (schema: ValidateFunction, value: string) => schema(JSON.parse(value))

/** Each breaks a record of both topics in one place. */
const mutations: Record<string, (value: string) => string> = {
  "without idempotent_key": (value) => value.replace(/"idempotent_key":"[^"]+",/, ""),
  "without order_id": (value) => value.replace(/"order_id":\d+,/, ""),
  "without status": (value) => value.replace(/,"status":"\w+"/, ""),
  "a key that is not a UUID": (value) => value.replace(/[0-9a-f]{12}"/, "\""),
  "a key that is not text": (value) => value.replace(/"idempotent_key":"[^"]+"/, "\"idempotent_key\":7"),
  "an order in quotes": (value) => value.replace(/"order_id":(\d+)/, "\"order_id\":\"$1\""),
  "order 0": (value) => value.replace(/"order_id":\d+/, "\"order_id\":0"),
  "a fraction": (value) => value.replace(/"order_id":(\d+)/, "\"order_id\":1.5"),
  "an order above int64": (value) => value.replace(/"order_id":\d+/, "\"order_id\":92233720368547758070"),
  "a status that is not text": (value) => value.replace(/"status":"\w+"/, "\"status\":true"),
  "no object": (value) => `[${value}]`
}

/** Each breaks a record of topic `payment`, whose form is exact; topic `inventory` allows it. */
const strictMutations: Record<string, (value: string) => string> = {
  "an unknown status": (value) => value.replace(/"status":"\w+"/, "\"status\":\"PAID\""),
  "another field": (value) => value.replace("{", "{\"amount\":1,"),
  "a key in upper case": (value) =>
    value.replace(/"idempotent_key":"([^"]+)"/, (all, key) => all.replace(key, key.toUpperCase()))
}

const decode = (value: string) => InventoryEvent.decode(new TextEncoder().encode(value))

describe("the contracts of docs", () => {
  it("are those of the sources", async () => {
    const script = inCheckout("scripts/contracts.mjs").href
    const { contracts } = await import(/* @vite-ignore */ script)
    for (const [path, content] of Object.entries(await contracts())) {
      assert.strictEqual(text(path), content, `${path}: npx tsx scripts/contracts.mjs`)
    }
  })

  it("hold for recorded records, and not for broken ones", () => {
    assert.includeMembers(recorded.map(({ topic }) => topic), Object.keys(schemas))
    for (const { topic, value } of recorded) {
      assert.isTrue(isValid(schemas[topic], value), value)
      const broken = Object.entries(topic === "payment" ? { ...mutations, ...strictMutations } : mutations)
      for (const [name, mutate] of broken) {
        assert.notStrictEqual(mutate(value), value, name)
        assert.isFalse(isValid(schemas[topic], mutate(value)), `${topic}: ${name}`)
      }
    }
  })

  it("agree with the service about records of topic inventory", () => {
    const [{ value }] = recorded.filter(({ topic }) => topic === "inventory") as [Recorded]
    const all = [(same: string) => same, ...Object.values(mutations), ...Object.values(strictMutations)]
    for (const mutate of all) {
      const mutated = mutate(value)
      assert.strictEqual(isValid(schemas.inventory, mutated), Either.isRight(decode(mutated)), mutated)
    }
    // the schema cannot see how a number is written
    for (const order of ["1.0", "1e3"]) {
      const mutated = value.replace(/"order_id":\d+/, `"order_id":${order}`)
      assert.isTrue(isValid(schemas.inventory, mutated))
      assert.isTrue(Either.isLeft(decode(mutated)))
    }
  })

  it("agree with the bytes that the service writes to topic payment", () => {
    for (const { headers: said, key, value } of recorded.filter(({ topic }) => topic === "payment")) {
      const { idempotent_key, order_id, status } = JSON.parse(value)
      const orderId = OrderId.make(BigInt(order_id))
      assert.strictEqual(PaymentEvent.encode({ idempotentKey: idempotent_key, orderId, status }), value)
      assert.strictEqual(key, String(orderId))
      assert.isTrue(headers.event(said))
      assert.isFalse(headers.event({ ...said, "event-id": "none" }))
      assert.isFalse(headers.event({ ...said, "content-type": "text/plain" }))
    }
  })

  it("agree with the headers that the service writes to the dead-letter topic", () => {
    const place = { topic: "inventory", partition: 3, offset: "1234", reason: "value is not JSON" }
    const { record } = DeadLetter.make(
      { ...place, key: null, value: Buffer.from("{"), headers: undefined },
      "inventory.dlq"
    )
    assert.isTrue(headers.letter(record.headers))
    for (const name of Object.keys(record.headers!)) {
      const { [name]: _, ...rest } = record.headers!
      assert.isFalse(headers.letter(rest), name)
    }
  })
})
