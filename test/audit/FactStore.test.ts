import { FileSystem } from "@effect/platform"
import * as NodeContext from "@effect/platform-node/NodeContext"
import { assert, it } from "@effect/vitest"
import { Effect, FastCheck as fc } from "effect"
import { randomUUID } from "node:crypto"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import * as Decode from "../../src/audit/Decode.js"
import * as FactStore from "../../src/audit/FactStore.js"

const status = fc.constantFrom("CREATED", "COMPLETED", "FAILED")
const key = fc.nat(Number.MAX_SAFE_INTEGER)
const place = fc.nat(Number.MAX_SAFE_INTEGER)
const time = fc.nat(0xffffffff)
const partition = fc.nat(0xffff)
const says = fc.option(status, { nil: undefined })

const fact = fc.oneof(
  fc.record({ kind: fc.constant("accepted"), key, partition, offset: place, read: fc.boolean() }),
  fc.record({ kind: fc.constant("payment"), status, createdAt: time, updatedAt: time }),
  fc.record({
    kind: fc.constant("event"),
    id: place,
    state: fc.constantFrom("WAIT", "DONE", "DEAD"),
    createdAt: time,
    key,
    says,
    exact: fc.boolean(),
    adopted: fc.boolean(),
    due: fc.boolean(),
    skipped: fc.boolean(),
    replayed: fc.boolean()
  }),
  fc.record({
    kind: fc.constant("record"),
    partition,
    offset: place,
    at: time,
    key,
    says,
    exact: fc.boolean(),
    keyed: fc.boolean()
  })
)

const everyPart = <A, E>(of: (part: number) => Effect.Effect<ReadonlyArray<A>, E>) =>
  Effect.map(Effect.forEach(Array.from({ length: FactStore.parts }, (_, part) => part), of), (parts) => parts.flat())

const withStore = <A, E>(use: (store: FactStore.FactStore) => Effect.Effect<A, E>) =>
  Effect.flatMap(FactStore.make, use).pipe(Effect.scoped, Effect.provide(NodeContext.layer))

it.effect.prop(
  "returns the facts that were added, by order",
  [fc.array(fc.tuple(fc.oneof(fc.bigInt(1n, 20n), fc.bigInt(1n, 9223372036854775807n)), fact), { maxLength: 200 })],
  ([given]) =>
    withStore((store) =>
      Effect.gen(function*() {
        for (const [orderId, { kind, ...row }] of given) {
          if (kind === "accepted") store.addAccepted(orderId, row as never)
          if (kind === "payment") store.addPayment(orderId, row as never, 0, false)
          if (kind === "event") store.addEvent(orderId, row as never, false)
          if (kind === "record") store.addRecord(orderId, row as never)
        }
        const all = yield* everyPart(store.ordersOf)
        assert.sameMembers(all.map(({ orderId }) => orderId), [...new Set(given.map(([orderId]) => orderId))])
        for (const facts of all) {
          const of = (wanted: string) =>
            given.flatMap(([id, { kind, ...row }]) => id === facts.orderId && kind === wanted ? [row] : [])
          assert.deepStrictEqual(facts.accepted, of("accepted").map((row) => ({ ...row, keyTaken: false })) as never)
          assert.sameDeepMembers([...facts.events], of("event") as never)
          assert.sameDeepMembers([...facts.records], of("record") as never)
          if (facts.payment !== undefined) assert.deepInclude(of("payment"), facts.payment as never)
          else assert.lengthOf(of("payment"), 0)
        }
      })
    )
)

const collect: () => void = (setFlagsFromString("--expose-gc"), runInNewContext("gc"))

/** An empty folder for temporary files. */
const ownFolder = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const folder = yield* fs.makeTempDirectoryScoped()
  const before = process.env["TMPDIR"]
  process.env["TMPDIR"] = folder
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      if (before === undefined) delete process.env["TMPDIR"]
      else process.env["TMPDIR"] = before
    })
  )
  return fs.readDirectory(folder)
})

it.scoped("a million facts are in files, not in memory, and the files are deleted", () =>
  Effect.gen(function*() {
    const files = yield* ownFolder
    const orders = 333_333
    const id = (n: number) => BigInt(n) * 9_000_000_000_001n + 1n
    const held = () => {
      collect()
      collect()
      const { arrayBuffers, heapUsed } = process.memoryUsage()
      return arrayBuffers + heapUsed
    }
    yield* withStore((store) =>
      Effect.gen(function*() {
        const before = held()
        for (let n = 0; n < 3 * orders; n++) {
          const fact = { partition: 1, offset: n, at: n, key: n, says: "FAILED", exact: true, keyed: true } as const
          store.addRecord(id(n % orders), fact)
          if (n % 10_000 === 9_999) yield* store.write
          if (n % orders === orders - 1) assert.isBelow(held() - before, 24e6, `${n} facts`)
        }
        assert.isAbove(store.bytes(), 30e6)
        assert.lengthOf(yield* files, 1)
        let seen = 0
        for (let part = 0; part < FactStore.parts; part++) {
          for (const { orderId, records } of yield* store.ordersOf(part)) {
            const n = Number((orderId - 1n) / 9_000_000_000_001n)
            seen++
            if (records.length !== 3 || records.some(({ offset }, i) => offset !== n + i * orders)) {
              assert.fail(`order ${orderId} has ${records.map(({ offset }) => offset)}`)
            }
          }
          if (part % 100 === 99) assert.isBelow(held() - before, 24e6, `part ${part}`)
        }
        assert.strictEqual(seen, orders)
      })
    )
    assert.lengthOf(yield* files, 0)
  }).pipe(Effect.provide(NodeContext.layer)))

const record = { partition: 0, offset: 1, read: true }
const payment = { status: "CREATED", createdAt: 1, updatedAt: 1 } as const

it.effect("an accepted record is marked when its key belongs to the payment of another order", () =>
  withStore((store) =>
    Effect.gen(function*() {
      for (let order = 1n; order <= 1_000n; order++) {
        store.addAccepted(order, { ...record, key: Number(order) })
        store.addPayment(order, payment, Number(order), false)
        store.addAccepted(order + 1_000n, { ...record, key: Number(order) })
        store.addAccepted(order + 2_000n, { ...record, key: Number(order) + 5_000 })
      }
      yield* store.markTaken
      const orders = yield* everyPart(store.ordersOf)
      assert.lengthOf(orders, 3_000)
      for (const { accepted, orderId } of orders) {
        assert.deepStrictEqual(accepted.map(({ keyTaken }) => keyTaken), [orderId > 1_000n && orderId <= 2_000n])
      }
    })
  ))

it.effect("old facts count for an order that also has recent facts", () =>
  withStore((store) =>
    Effect.gen(function*() {
      store.addPayment(1n, payment, 0, true)
      store.addPayment(2n, payment, 0, true)
      store.addAccepted(2n, { ...record, key: 2 })
      store.addPayment(3n, payment, 0, true)
      store.addPayment(4n, payment, 0, false)
      const orders = yield* everyPart(store.ordersOf)
      assert.sameMembers(orders.map(({ orderId }) => orderId), [2n, 4n])
      assert.isTrue(orders.every(({ payment }) => payment !== undefined))
    })
  ))

it.effect("a malformed record is matched with the dead letter of its position", () =>
  withStore((store) =>
    Effect.gen(function*() {
      const at = (partition: number, offset: number) => ({ partition, offset })
      store.addMalformed(at(1, 7))
      store.addMalformed(at(2, 7))
      store.addMalformed(at(1, 519))
      store.addDeadLetter(at(1, 7))
      store.addDeadLetter(at(3, 7))
      assert.sameDeepMembers(yield* everyPart(store.withoutDeadLetter), [at(2, 7), at(1, 519)])
    })
  ))

it("digests of keys differ, even for one different character", () => {
  const keys = Array.from({ length: 200_000 }, () => randomUUID())
  const numbered = Array.from({ length: 200_000 }, (_, n) => `00000000-0000-4000-8000-${String(n).padStart(12, "0")}`)
  const digests = new Set([...keys, ...numbered].map(Decode.digest))
  assert.strictEqual(digests.size, 400_000)
  assert.isTrue([...digests].every((digest) => Number.isSafeInteger(digest) && digest > 0))
})

const uuid = "0b9f2f0e-6a51-4a7c-9b55-3f0d4c2a1e77"
const body = (text: string) => Decode.payment(Buffer.from(text))

it("a body is exact only with exactly the three fields in their order", () => {
  const exact = body(`{"idempotent_key":"${uuid}","order_id":9223372036854775807,"status":"FAILED"}`)
  assert.deepStrictEqual(exact, {
    orderId: 9223372036854775807n,
    key: Decode.digest(uuid),
    says: "FAILED",
    exact: true
  })
  for (
    const text of [
      `{"idempotent_key": "${uuid}","order_id":9223372036854775807,"status":"FAILED"}`,
      `{"order_id":9223372036854775807,"idempotent_key":"${uuid}","status":"FAILED"}`,
      `{"idempotent_key":"${uuid}","order_id":9223372036854775807,"status":"FAILED","more":1}`,
      `{"idempotent_key":"${uuid.toUpperCase()}","order_id":9223372036854775807,"status":"FAILED"}`
    ]
  ) assert.deepStrictEqual(body(text), { ...exact!, exact: false })
  for (
    const text of [
      "",
      "no json",
      `{"idempotent_key":"${uuid}","order_id":0,"status":"FAILED"}`,
      `{"idempotent_key":"${uuid}","order_id":9223372036854775808,"status":"FAILED"}`,
      `{"idempotent_key":"${uuid}","order_id":1,"status":"PAID"}`
    ]
  ) assert.isUndefined(body(text))
  assert.isUndefined(Decode.payment(null))
})
