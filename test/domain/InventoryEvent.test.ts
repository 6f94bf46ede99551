import { assert, describe, it } from "@effect/vitest"
import { Either, FastCheck as fc } from "effect"
import * as InventoryEvent from "../../src/domain/InventoryEvent.js"
import { OrderId, PaymentStatus } from "../../src/domain/Payment.js"
import * as PaymentEvent from "../../src/domain/PaymentEvent.js"
import { expected, parse, Written } from "./Oracle.js"

const bytes = (text: string) => new TextEncoder().encode(text)
const decode = (text: string) => InventoryEvent.decode(bytes(text))
const reasonOf = (text: string) => Either.match(decode(text), { onLeft: (_) => _.reason, onRight: () => "accepted" })

/** Every reason there is: none of them has anything of a payload in it. */
const reasons = [
  "record has no value",
  "value is not JSON",
  "value is not a JSON object",
  "idempotent_key is not a uuid",
  "order_id is not a number",
  "order_id is not a whole number",
  "order_id is out of range",
  "status is not text"
]

const key = "0b0e4a52-2d5b-4b8e-9f0a-5a8f3f1c2d3e"

const orderId = fc.oneof(
  fc.bigInt(1n, 2n ** 63n - 1n),
  fc.bigInt(2n ** 53n - 5n, 2n ** 53n + 5n),
  fc.bigInt(2n ** 63n - 5n, 2n ** 63n - 1n)
)
const space = fc.string({ unit: fc.constantFrom(" ", "\t", "\n", "\r"), maxLength: 3 })

/** A text as JSON, each character plain or escaped in one of the ways there are. */
const written = (text: string) =>
  fc.tuple(...[...text].map((char) =>
    fc.boolean().map((escape) =>
      escape
        ? [...char].flatMap((c) => c.split("")).map((unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`)
          .join("")
        : JSON.stringify(char).slice(1, -1)
    )
  )).map((chars) => `"${chars.join("")}"`)

const anyText = fc.oneof(
  fc.string({ unit: "binary", maxLength: 12 }),
  fc.constantFrom(
    "order_id",
    "status",
    "\",\"order_id\":7,\"",
    "\\",
    "\\\"",
    "{\"order_id\":7}",
    "1e3",
    "-0",
    "\u0000",
    "é€😀"
  )
)
const { value: anyValue } = fc.letrec<{ value: string }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 3 },
    fc.constantFrom("true", "false", "null", "-0", "0", "1.0", "1e3", "1E+400", "-12.50e-7", "9007199254740993"),
    anyText.chain(written),
    fc.array(tie("value"), { maxLength: 3 }).map((items) => `[${items.join(",")}]`),
    fc.array(
      fc.tuple(fc.oneof(fc.constantFrom("order_id", "idempotent_key", "status"), anyText).chain(written), tie("value")),
      { maxLength: 3 }
    ).map((members) => `{${members.map(([name, value]) => `${name} : ${value}`).join(" , ")}}`)
  )
}))
const names = ["idempotent_key", "order_id", "status"]
const strangers = fc.array(
  fc.tuple(anyText.filter((name) => !names.includes(name)).chain(written), anyValue),
  { maxLength: 4 }
)

type Member = readonly [name: string, value: string]

/** An event, and a text that says it: fields in any order among others, white space anywhere. */
const said = fc.record({
  event: fc.record({
    idempotentKey: fc.uuid(),
    orderId,
    status: anyText
  }),
  shout: fc.boolean(),
  stale: fc.array(fc.tuple(fc.constantFrom(...names).chain(written), anyValue), { maxLength: 2 }),
  strangers
}).chain(({ event, shout, stale, strangers }) =>
  fc.tuple(
    written("idempotent_key"),
    written(shout ? event.idempotentKey.toUpperCase() : event.idempotentKey),
    written("order_id"),
    written("status"),
    written(event.status)
  ).chain(([keyName, uuid, orderName, statusName, status]) => {
    const own: ReadonlyArray<Member> = [[keyName, uuid], [orderName, String(event.orderId)], [statusName, status]]
    return fc.tuple(
      fc.shuffledSubarray([...own, ...strangers], { minLength: own.length + strangers.length }),
      space,
      space
    )
      // of a key that is there twice, the last counts
      .map(([members, before, after]) => ({
        event: { ...event, orderId: OrderId.make(event.orderId) } satisfies InventoryEvent.InventoryEvent,
        text: `${before}{${
          [...stale, ...members].map(([name, value]) => `${after}${name}${before}:${after}${value}${before}`).join(",")
        }}${after}`
      }))
  })
)

/** An event as producers write it. */
const usual = fc.tuple(
  fc.record({
    idempotentKey: fc.uuid(),
    orderId: fc.oneof(fc.bigInt(1n, 1_000n), orderId).map((id) => OrderId.make(id)),
    status: fc.constantFrom("COMPLETED", "CREATED", "FAILED", "", "completed")
  }),
  fc.boolean()
).map(([event, shout]) => ({
  event,
  text: InventoryEvent.encode(shout ? { ...event, idempotentKey: event.idempotentKey.toUpperCase() } : event)
}))

const accepts = (text: string, event: InventoryEvent.InventoryEvent) =>
  assert.deepStrictEqual(decode(text), Either.right(event))

describe("InventoryEvent", () => {
  it("reads an event in any valid JSON form", () =>
    fc.assert(
      fc.property(fc.oneof(said, usual), ({ event, text }) => {
        assert.deepStrictEqual(expected(text), event)
        accepts(text, event)
      }),
      { numRuns: 500 }
    ))

  it("agrees with a strict parser on almost valid events", () => {
    const mutation = fc.tuple(
      fc.nat(),
      fc.constantFrom(0, 1, 2),
      fc.constantFrom(
        "",
        "\"",
        "\\",
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "-",
        "0",
        "1",
        ".",
        "e",
        "+",
        " ",
        "\u00a0",
        "\ufeff",
        "x",
        "null",
        "\n"
      )
    )
    let refused = 0
    fc.assert(
      fc.property(fc.oneof(said, usual), fc.array(mutation, { minLength: 1, maxLength: 3 }), ({ text }, mutations) => {
        const mutated = mutations.reduce((text, [at, gone, put]) => {
          const place = 1 + at % text.length
          return text.slice(0, place) + put + text.slice(place + gone)
        }, text).replace(/\p{Surrogate}/gu, "x")
        const event = expected(mutated)
        const found = decode(mutated)
        if (event !== undefined) return assert.deepStrictEqual(found, Either.right(event))
        refused++
        assert.include(reasons, Either.match(found, { onLeft: (_) => _.reason, onRight: () => "accepted" }))
      }),
      { numRuns: 1_000 }
    )
    assert.isAbove(refused, 100)
  })

  it("any number that is not a whole one of 1 to 2^63 - 1 is refused", () => {
    const withOrder = (order: string) =>
      reasonOf(`{"idempotent_key":"${key}","order_id":${order},"status":"COMPLETED"}`)
    const cases: Record<string, ReadonlyArray<string>> = {
      "order_id is not a whole number": [
        "1.0",
        "1e3",
        "1E3",
        "10e-1",
        "0.9999999999999999999",
        "1.5",
        "-1.0",
        "-0.0",
        "1e400"
      ],
      "order_id is out of range": ["0", "-0", "-1", "9223372036854775808", "-9223372036854775808", "1".repeat(400)],
      "order_id is not a number": ["\"1\"", "null", "true", "[1]", "{\"order_id\":1}"],
      "value is not JSON": ["01", "+1", "1.", ".5", "1_000", "0x1", "NaN", "Infinity", "1n", "- 1", "1e", ""]
    }
    for (const [reason, orders] of Object.entries(cases)) {
      for (const order of orders) assert.strictEqual(withOrder(order), reason, order)
    }
    for (const order of ["1", "9007199254740991", "9007199254740992", "9007199254740993", "9223372036854775807"]) {
      accepts(`{"idempotent_key":"${key}","order_id":${order},"status":"COMPLETED"}`, {
        idempotentKey: key,
        orderId: OrderId.make(BigInt(order)),
        status: "COMPLETED"
      })
    }
  })

  it("names the fault, and quotes nothing of the payload", () => {
    const fields = { idempotent_key: `"${key}"`, order_id: "42", status: "\"COMPLETED\"" }
    const with_ = (change: Partial<Record<keyof typeof fields, string | undefined>>) =>
      `{${
        Object.entries({ ...fields, ...change }).flatMap(([name, value]) =>
          value === undefined ? [] : [`"${name}":${value}`]
        )
          .join(",")
      }}`
    const cases: ReadonlyArray<readonly [text: string, reason: string]> = [
      ["", "value is not JSON"],
      [" ", "value is not JSON"],
      ["hunter2", "value is not JSON"],
      [`${with_({})}x`, "value is not JSON"],
      [with_({}).slice(0, -1), "value is not JSON"],
      [with_({}).replaceAll("\"", "'"), "value is not JSON"],
      [with_({}).replace("}", ",}"), "value is not JSON"],
      [`// hunter2\n${with_({})}`, "value is not JSON"],
      ["null", "value is not a JSON object"],
      ["42", "value is not a JSON object"],
      ["\"hunter2\"", "value is not a JSON object"],
      [`[${with_({})}]`, "value is not a JSON object"],
      ["{}", "idempotent_key is not a uuid"],
      [`{"__proto__":${with_({})}}`, "idempotent_key is not a uuid"],
      [with_({ idempotent_key: undefined }), "idempotent_key is not a uuid"],
      [with_({ idempotent_key: "null" }), "idempotent_key is not a uuid"],
      [with_({ idempotent_key: "7" }), "idempotent_key is not a uuid"],
      [with_({ idempotent_key: "\"\"" }), "idempotent_key is not a uuid"],
      [with_({ idempotent_key: "\"hunter2\"" }), "idempotent_key is not a uuid"],
      [with_({ idempotent_key: `"${key} "` }), "idempotent_key is not a uuid"],
      [with_({ idempotent_key: `"${key}\\n"` }), "idempotent_key is not a uuid"],
      [with_({ idempotent_key: `"{${key}}"` }), "idempotent_key is not a uuid"],
      [with_({ idempotent_key: `"${key.replaceAll("-", "")}"` }), "idempotent_key is not a uuid"],
      [with_({ idempotent_key: `"${key.slice(0, -1)}-"` }), "idempotent_key is not a uuid"],
      [with_({ order_id: undefined }), "order_id is not a number"],
      [with_({ status: undefined }), "status is not text"],
      [with_({ status: "null" }), "status is not text"],
      [with_({ status: "7" }), "status is not text"],
      [with_({ status: "[\"COMPLETED\"]" }), "status is not text"]
    ]
    for (const [text, reason] of cases) assert.strictEqual(reasonOf(text), reason, text)
    assert.strictEqual(Either.getOrThrow(Either.flip(InventoryEvent.decode(null))).reason, "record has no value")
    assert.strictEqual(reasonOf(with_({})), "accepted")
  })

  it("never throws, whatever the bytes", () =>
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), said, fc.nat(), (noise, { text }, at) => {
        const whole = bytes(text)
        const broken = Uint8Array.from(whole)
        broken.set(noise.subarray(0, whole.length - at % whole.length), at % whole.length)
        for (const value of [noise, broken]) {
          const found = InventoryEvent.decode(value)
          if (Either.isLeft(found)) assert.include(reasons, found.left.reason)
        }
      }),
      { numRuns: 500 }
    ))

  it("text that is not UTF-8 is no JSON", () => {
    const value = Buffer.concat([
      bytes(`{"idempotent_key":"${key}","order_id":1,"status":"`),
      Buffer.of(0xc3, 0x28),
      bytes("\"}")
    ])
    assert.strictEqual(Either.getOrThrow(Either.flip(InventoryEvent.decode(value))).reason, "value is not JSON")
  })

  it("takes time in proportion to the size, and a bounded stack, for any value", () => {
    const long = 4_000_000
    const order = (number: string) => `{"idempotent_key":"${key}","order_id":${number},"status":"COMPLETED"}`
    const beside = (value: string) => `{"other":${value},"idempotent_key":"${key}","order_id":7,"status":"COMPLETED"}`
    const cases: ReadonlyArray<readonly [text: string, reason: string]> = [
      [beside(`"${"a".repeat(long)}"`), "accepted"],
      [beside(`"${"\\\\".repeat(long / 2)}"`), "accepted"],
      [beside(`"${"\\\"".repeat(long / 2)}"`), "accepted"],
      [beside(`${"[".repeat(100_000)}${"]".repeat(100_000)}`), "accepted"],
      [beside("{\"a\":".repeat(100_000) + "1" + "}".repeat(100_000)), "accepted"],
      [beside("7".repeat(1_000_000)), "accepted"],
      [`{${"\"order_id\":1,".repeat(100_000)}"status":"A","order_id":7,"idempotent_key":"${key}"}`, "accepted"],
      ["[".repeat(1_000_000), "value is not JSON"],
      [" ".repeat(long), "value is not JSON"],
      [order("7".repeat(long)), "order_id is out of range"],
      [order(`-${"7".repeat(long)}`), "order_id is out of range"],
      [order("1e999999999"), "order_id is not a whole number"],
      [order(`1.${"0".repeat(long)}`), "order_id is not a whole number"],
      [`{"idempotent_key":"${"a".repeat(long)}","order_id":1,"status":"A"}`, "idempotent_key is not a uuid"]
    ]
    for (const [text, reason] of cases) {
      const begun = performance.now()
      assert.strictEqual(reasonOf(text), reason, text.slice(0, 99))
      assert.isBelow(performance.now() - begun, 3_000, text.slice(0, 99))
    }
  }, 30_000)

  it("takes values of the largest size that a broker allows", () => {
    const event = { idempotentKey: key, orderId: OrderId.make(9007199254740993n), status: "COMPLETED" }
    const with_ = (value: string) => InventoryEvent.encode(event).replace("{", `{"note":${value},`)
    accepts(with_(`"${"x".repeat(8_000_000)}"`), event)
    accepts(with_(`"${"\\\"".repeat(2_000_000)}"`), event)
    accepts(with_(`${"[".repeat(100_000)}${"]".repeat(100_000)}`), event)
    accepts(with_(`[${"1,".repeat(500_000)}1]`), event)
  })

  it("decode gives back what encode was given", () =>
    fc.assert(fc.property(
      fc.record({ idempotentKey: fc.uuid(), orderId: orderId.map((id) => OrderId.make(id)), status: anyText }),
      (event) => accepts(InventoryEvent.encode(event), event)
    )))
})

describe("PaymentEvent", () => {
  it("is these bytes", () =>
    assert.strictEqual(
      PaymentEvent.encode({ idempotentKey: key, orderId: OrderId.make(9007199254740993n), status: "CREATED" }),
      `{"idempotent_key":"0b0e4a52-2d5b-4b8e-9f0a-5a8f3f1c2d3e","order_id":9007199254740993,"status":"CREATED"}`
    ))

  it("is these three fields in this order, for any order", () =>
    fc.assert(fc.property(fc.uuid(), orderId, fc.constantFrom(...PaymentStatus.literals), (uuid, id, status) => {
      const text = PaymentEvent.encode({ idempotentKey: uuid, orderId: OrderId.make(id), status })
      assert.strictEqual(text.replace(/\s/g, ""), text)
      assert.deepStrictEqual(
        [...parse(text) as Map<string, unknown>],
        [["idempotent_key", uuid], ["order_id", new Written(String(id))], ["status", status]]
      )
    })))
})
