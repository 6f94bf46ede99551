import * as NodeContext from "@effect/platform-node/NodeContext"
import { SqlClient } from "@effect/sql"
import { assert, layer } from "@effect/vitest"
import {
  Deferred,
  Duration,
  Effect,
  Exit,
  Fiber,
  Layer,
  Logger,
  LogLevel,
  Metric,
  Option,
  Redacted,
  Schedule,
  Scope
} from "effect"
import { Redis as Client } from "ioredis"
import { randomUUID } from "node:crypto"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { inject } from "vitest"
import { OrderId } from "../../src/domain/Payment.js"
import { Redis } from "../../src/infra/redis/Redis.js"
import { Dedupe } from "../../src/inventory/Dedupe.js"
import * as Intake from "../../src/inventory/Intake.js"
import * as Stack from "../../src/local/Stack.js"
import { Outbox } from "../../src/outbox/Outbox.js"
import { OutboxWake } from "../../src/outbox/OutboxWake.js"
import { PaymentRepo } from "../../src/payments/PaymentRepo.js"
import { Payments } from "../../src/payments/Payments.js"
import type { Reservation } from "../../src/payments/Reservation.js"
import * as Locks from "../harness/Locks.js"
import * as PgTest from "../harness/PgTest.js"
import * as Proxy from "../harness/Proxy.js"

const payments = Payments.Default.pipe(
  Layer.provide(PaymentRepo.Default),
  Layer.provide(Outbox.Default({ topic: "payment", lease: "30 seconds", maxAttempts: 10 })),
  Layer.provide(OutboxWake.layerLocal)
)

const nameOf = (key: string) => `payments:inventory:${key}`
let last = 9007199254740993n
const reservation = (orderId = OrderId.make(last++), idempotentKey: string = randomUUID()): Reservation => ({
  orderId,
  idempotentKey,
  traceparent: Option.none()
})

const beside = (url: string) =>
  Effect.acquireRelease(Effect.sync(() => new Client(url)), (redis) => Effect.sync(() => redis.disconnect()))

const ownRedis = Stack.start({
  folder: join(tmpdir(), `payments-redis-${randomUUID()}`),
  cache: fileURLToPath(new URL("../../.local/cache", import.meta.url)),
  ports: { postgres: 0, redis: 0, kafka: 0 },
  parts: ["redis"],
  throwaway: true
}).pipe(
  Effect.map(({ parts, redisUrl }) => ({ url: redisUrl!, pid: parts.redis!.pid })),
  Effect.provide(NodeContext.layer)
)

const connections = ["redis answers", "redis is away"]
/** Log lines about Redis, and all others. */
const ofRedis = (lines: ReadonlyArray<string>) =>
  lines.map((line) => line.replace(/:.*/, "")).filter((line) => connections.includes(line))
const others = (lines: ReadonlyArray<string>) => lines.filter((line) => ofRedis([line]).length === 0)

/** The intake on this Redis, with its log lines and its requests to the database. */
const make = (url: string) =>
  Effect.gen(function*() {
    const lines: Array<string> = []
    const asked: Array<ReadonlyArray<Reservation>> = []
    const answers = yield* Deferred.make<void>()
    const logger = Layer.merge(
      Logger.replace(
        Logger.defaultLogger,
        Logger.make(({ annotations, message }) =>
          void lines.push(
            [
              ...[message].flat(),
              ...[...annotations].map(([name, value]) => `${name}=${JSON.stringify(value)}`)
            ].join(" ")
          )
        )
      ),
      Logger.minimumLogLevel(LogLevel.Info)
    )
    const redis = Redis.layer({
      url: Redacted.make(url),
      onChange: (problem) => {
        lines.push(problem === undefined ? "redis answers" : `redis is away: ${problem}`)
        return problem === undefined ? Effect.asVoid(Deferred.succeed(answers, undefined)) : Effect.void
      }
    })
    const context = yield* Layer.build(
      Dedupe.layer({ ttl: "7 days" }).pipe(Layer.provide(redis), Layer.provide(logger))
    )
    const real = yield* Payments
    const open = yield* Scope.make()
    const reserve = yield* Intake.make.pipe(
      Scope.extend(open),
      Effect.provide(context),
      Effect.provide(logger),
      Effect.provideService(
        Payments,
        Payments.make({ ...real, reserve: (batch) => Effect.suspend(() => (asked.push(batch), real.reserve(batch))) })
      )
    )
    return {
      reserve: (batch: ReadonlyArray<Reservation>) => Effect.provide(reserve(batch), logger),
      answers: Deferred.await(answers),
      /** Ends the intake: it logs what it has gathered. */
      end: Scope.close(open, Exit.void),
      asked,
      lines
    }
  })

const connected = (url: string) => Effect.tap(make(url), ({ answers }) => answers)

const stored = (...batch: ReadonlyArray<Reservation>) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) =>
    Effect.map(
      sql<{ readonly order_id: string; readonly inventory_key: string; readonly events: number }>`
        SELECT order_id, inventory_key, (SELECT count(*)::int FROM event WHERE event.order_id = payment.order_id) AS events
        FROM payment WHERE order_id = ANY(${batch.map((_) => _.orderId)}::bigint[]) ORDER BY order_id
      `,
      (rows) => rows.map((_) => [_.order_id, _.inventory_key, _.events])
    ))
const once = (...batch: ReadonlyArray<Reservation>) => batch.map((_) => [String(_.orderId), _.idempotentKey, 1])

const inRedis = (redis: Client, { idempotentKey }: Reservation) =>
  Effect.promise(() => redis.get(nameOf(idempotentKey)))

/** The growth of the counters since the call. */
const counting = Effect.gen(function*() {
  const read = Effect.map(
    Metric.snapshot,
    (pairs) =>
      new Map(pairs.flatMap(({ metricKey, metricState }) =>
        "count" in (metricState as object)
          ? [
            [
              [metricKey.name, ...metricKey.tags.map(({ value }) => value)].join(" "),
              Number((metricState as unknown as { readonly count: number }).count)
            ] as const
          ]
          : []
      ))
  )
  const before = yield* read
  return Effect.map(read, (after) => (name: string) => (after.get(name) ?? 0) - (before.get(name) ?? 0))
})

layer(Layer.provideMerge(payments, PgTest.layer), { timeout: "60 seconds", excludeTestServices: true })(
  "Intake",
  (it) => {
    it.scoped("creates the payment, remembers it in Redis, and a repeat causes no insert", () =>
      Effect.gen(function*() {
        const { asked, lines, reserve } = yield* connected(inject("redisUrl"))
        const redis = yield* beside(inject("redisUrl"))
        const counted = yield* counting
        const one = reservation()
        yield* reserve([one])
        assert.strictEqual(yield* inRedis(redis, one), String(one.orderId))
        yield* reserve([one])
        assert.lengthOf(asked, 1)
        assert.deepStrictEqual(yield* stored(one), once(one))
        const of = yield* counted
        assert.deepStrictEqual([
          of("payments_inventory_records_total created"),
          of("payments_inventory_records_total repeated"),
          of("payments_dedupe_hits_total redis"),
          of("payments_dedupe_hits_total postgres")
        ], [1, 1, 1, 0])
        assert.deepStrictEqual(others(lines), [])
      }))

    it.scoped("evicted or flushed: the database recognises the repeat, and Redis remembers it again", () =>
      Effect.gen(function*() {
        const { url } = yield* ownRedis
        const { asked, reserve } = yield* connected(url)
        const redis = yield* beside(url)
        const counted = yield* counting
        const [one, other] = [reservation(), reservation()]
        yield* reserve([one, other])
        yield* Effect.promise(() => redis.del(nameOf(one.idempotentKey)))
        yield* reserve([one, other])
        assert.deepStrictEqual(asked[1], [one])
        assert.strictEqual(yield* inRedis(redis, one), String(one.orderId))
        yield* Effect.promise(() => redis.flushall())
        yield* reserve([one, other])
        assert.deepStrictEqual(asked[2], [one, other])
        assert.deepStrictEqual(yield* stored(one, other), once(one, other))
        assert.strictEqual((yield* counted)("payments_dedupe_hits_total postgres"), 3)
      }))

    it.scoped("after a restore, records that only Redis remembers get their payment, once", () =>
      Effect.gen(function*() {
        const { asked, end, lines, reserve } = yield* connected(inject("redisUrl"))
        const sql = yield* SqlClient.SqlClient
        const counted = yield* counting
        const [kept, lost] = [[reservation(), reservation()], Array.from({ length: 5 }, () => reservation())]
        const batch = [kept[0]!, ...lost, kept[1]!]
        yield* reserve(batch)
        yield* sql`
          WITH gone AS (DELETE FROM payment WHERE order_id = ANY(${
          lost.map((_) => _.orderId)
        }::bigint[]) RETURNING order_id)
          DELETE FROM event WHERE order_id IN (SELECT order_id FROM gone)
        `
        yield* reserve(batch)
        assert.deepStrictEqual(asked[1], lost)
        assert.deepStrictEqual(yield* stored(...batch), once(...kept, ...lost).sort())
        yield* reserve(batch)
        assert.lengthOf(asked, 2)
        const of = yield* counted
        assert.deepStrictEqual([
          of("payments_inventory_records_total created"),
          of("payments_inventory_records_total repeated"),
          of("payments_dedupe_hits_total redis"),
          of("payments_dedupe_stale_total")
        ], [12, 9, 9, 5])
        // one line for several batches
        yield* sql`DELETE FROM payment WHERE order_id = ${lost[0]!.orderId}`
        yield* reserve(batch)
        yield* end
        assert.lengthOf(others(lines), 1)
        assert.match(
          others(lines)[0]!,
          /^redis remembered keys that the database did not have: their payments were created count=6 examples=/
        )
      }))

    it.scoped("Redis remembers another database, order or key: the database decides", () =>
      Effect.gen(function*() {
        const { reserve } = yield* connected(inject("redisUrl"))
        const redis = yield* beside(inject("redisUrl"))
        const counted = yield* counting
        const set = ({ idempotentKey }: Reservation, order: bigint) =>
          Effect.promise(() => redis.set(nameOf(idempotentKey), String(order)))
        const paid = reservation()
        yield* reserve([paid])
        // Redis is shared with the services of another database
        const elsewhere = reservation()
        yield* set(elsewhere, elsewhere.orderId)
        // an unrelated order, with or without a payment
        const [misled, astray] = [reservation(), reservation()]
        yield* set(misled, paid.orderId)
        yield* set(astray, last++)
        // the order has a payment under another key
        const again = reservation(paid.orderId)
        yield* set(again, again.orderId)
        // the key belongs to the payment of another order
        const wrong = reservation(undefined, paid.idempotentKey)
        yield* set(wrong, wrong.orderId)
        yield* reserve([elsewhere, misled, astray, again, wrong])
        assert.deepStrictEqual(
          yield* stored(paid, elsewhere, misled, astray, wrong),
          once(paid, elsewhere, misled, astray)
        )
        const of = yield* counted
        assert.deepStrictEqual(
          ["created", "repeated", "order_taken", "key_taken"].map((name) =>
            of(`payments_inventory_records_total ${name}`)
          ),
          [4, 0, 1, 1]
        )
        assert.strictEqual(yield* inRedis(redis, misled), String(misled.orderId))
      }))

    it.scoped("while the database does not answer, hits in Redis are not skipped", () =>
      Effect.gen(function*() {
        const { reserve } = yield* connected(inject("redisUrl"))
        const sql = yield* SqlClient.SqlClient
        const counted = yield* counting
        const one = reservation()
        yield* reserve([one])
        yield* Effect.acquireUseRelease(
          sql`ALTER TABLE payment RENAME TO hidden`,
          () => Effect.map(Effect.exit(reserve([one])), (exit) => assert.isTrue(Exit.isFailure(exit))),
          () => Effect.orDie(sql`ALTER TABLE hidden RENAME TO payment`)
        )
        assert.strictEqual((yield* counted)("payments_inventory_records_total repeated"), 0)
        yield* reserve([one])
        assert.strictEqual((yield* counted)("payments_inventory_records_total repeated"), 1)
      }))

    it.scoped("the same key with another order: no second payment, one warning and a counter, whichever layer recognises it", () =>
      Effect.gen(function*() {
        const { end, lines, reserve } = yield* connected(inject("redisUrl"))
        const redis = yield* beside(inject("redisUrl"))
        const counted = yield* counting
        const one = reservation()
        const wrong = reservation(undefined, one.idempotentKey)
        yield* reserve([one])
        yield* reserve([wrong])
        yield* Effect.promise(() => redis.del(nameOf(one.idempotentKey)))
        yield* reserve([wrong])
        // unconfirmed hits are not remembered again
        assert.isNull(yield* inRedis(redis, one))
        assert.deepStrictEqual(yield* stored(one, wrong), once(one))
        assert.strictEqual((yield* counted)("payments_inventory_records_total key_taken"), 2)
        yield* end
        const [line] = others(lines)
        assert.lengthOf(others(lines), 1)
        for (
          const part of [
            "for 2 records: the idempotent_key belongs to another order",
            `"order_id":"${wrong.orderId}"`,
            `"belongs_to":"${one.orderId}"`
          ]
        ) assert.include(line, part)
      }))

    it.scoped("the same order with another key: no second payment, a counter, and Redis does not remember it", () =>
      Effect.gen(function*() {
        const { lines, reserve } = yield* connected(inject("redisUrl"))
        const redis = yield* beside(inject("redisUrl"))
        const counted = yield* counting
        const one = reservation()
        const again = reservation(one.orderId)
        yield* reserve([one, again])
        assert.isNull(yield* inRedis(redis, again))
        assert.deepStrictEqual(yield* stored(one), once(one))
        assert.strictEqual((yield* counted)("payments_inventory_records_total order_taken"), 1)
        assert.deepStrictEqual(others(lines), [])
      }))

    it.scoped("an unreadable value under our key in Redis does not prevent a payment", () =>
      Effect.gen(function*() {
        const { reserve } = yield* connected(inject("redisUrl"))
        const redis = yield* beside(inject("redisUrl"))
        for (const value of ["true", "", "0", "9223372036854775808"]) {
          const one = reservation()
          yield* Effect.promise(() => redis.set(nameOf(one.idempotentKey), value))
          yield* reserve([one])
          assert.deepStrictEqual(yield* stored(one), once(one), value)
          assert.strictEqual(yield* inRedis(redis, one), String(one.orderId))
        }
        const list = reservation()
        yield* Effect.promise(() => redis.lpush(nameOf(list.idempotentKey), "x"))
        yield* reserve([list])
        assert.deepStrictEqual(yield* stored(list), once(list))
      }))

    it.scoped("Redis remembers keys after the commit, and none when the commit fails", () =>
      Effect.gen(function*() {
        const { reserve } = yield* connected(inject("redisUrl"))
        const redis = yield* beside(inject("redisUrl"))
        const sql = yield* SqlClient.SqlClient
        const one = reservation()
        yield* Effect.acquireUseRelease(
          sql.unsafe(`
          CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not now'; END $$;
          CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON payment
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()
        `),
          () =>
            Effect.map(Effect.flip(reserve([one])), (error) => assert.strictEqual(error._tag, "DatabaseUnavailable")),
          () => Effect.orDie(sql.unsafe("DROP TRIGGER refuse ON payment; DROP FUNCTION refuse()"))
        )
        assert.isNull(yield* inRedis(redis, one))
        assert.deepStrictEqual(yield* stored(one), [])
        yield* reserve([one])
        assert.strictEqual(yield* inRedis(redis, one), String(one.orderId))
        assert.deepStrictEqual(yield* stored(one), once(one))
      }))

    it.scoped("before the commit, Redis does not remember the key", () =>
      Effect.gen(function*() {
        const { reserve } = yield* connected(inject("redisUrl"))
        const redis = yield* beside(inject("redisUrl"))
        const sql = yield* SqlClient.SqlClient
        const one = reservation()
        const held = yield* Deferred.make<void>()
        const release = yield* Deferred.make<void, "undone">()
        const rival = yield* sql`INSERT INTO payment (order_id, status) VALUES (${one.orderId}, 'CREATED')`.pipe(
          Effect.zipRight(Deferred.succeed(held, undefined)),
          Effect.zipRight(Deferred.await(release)),
          sql.withTransaction,
          Effect.fork
        )
        yield* Deferred.await(held)
        const call = yield* Effect.fork(reserve([one]))
        yield* Locks.waiting(1)
        assert.isNull(yield* inRedis(redis, one))
        yield* Deferred.fail(release, "undone")
        yield* Fiber.await(rival)
        yield* Fiber.join(call)
        assert.strictEqual(yield* inRedis(redis, one), String(one.orderId))
        assert.deepStrictEqual(yield* stored(one), once(one))
      }))

    it.scoped("Redis down: batches are handled as fast, once each, with one report", () =>
      Effect.gen(function*() {
        const { pid, url } = yield* ownRedis
        const { lines, reserve } = yield* connected(url)
        const one = reservation()
        yield* reserve([one])
        yield* Effect.sync(() => process.kill(pid, "SIGKILL"))
        const batch = [one, ...Array.from({ length: 20 }, () => reservation())]
        const [took] = yield* Effect.timed(Effect.forEach([1, 2, 3], () => reserve(batch)))
        assert.isTrue(Duration.lessThan(took, "3 seconds"), Duration.format(took))
        assert.deepStrictEqual(yield* stored(...batch), once(...batch))
        assert.deepStrictEqual(ofRedis(lines), ["redis answers", "redis is away"])
        assert.deepStrictEqual(others(lines), [])
      }))

    it.scoped("Redis slow: one batch waits briefly, the next do not, each is handled once", () =>
      Effect.gen(function*() {
        const { pid, url } = yield* ownRedis
        const { lines, reserve } = yield* connected(url)
        yield* Effect.sync(() => process.kill(pid, "SIGSTOP"))
        const batch = Array.from({ length: 10 }, () => reservation())
        const [first] = yield* Effect.timed(reserve(batch))
        assert.isTrue(Duration.lessThan(first, "2 seconds"), Duration.format(first))
        const [next] = yield* Effect.timed(reserve(batch))
        assert.isTrue(Duration.lessThan(next, "1 second"), Duration.format(next))
        assert.deepStrictEqual(yield* stored(...batch), once(...batch))
        assert.deepStrictEqual(lines, ["redis answers", "redis is away: no answer in time"])
        yield* Effect.sync(() => process.kill(pid, "SIGCONT"))
      }))

    it.scoped("Redis paused for writes between lookup and remember: handled once, without a failure", () =>
      Effect.gen(function*() {
        const { url } = yield* ownRedis
        const { reserve } = yield* connected(url)
        const redis = yield* beside(url)
        const one = reservation()
        yield* Effect.promise(() => redis.call("CLIENT", "PAUSE", "60000", "WRITE"))
        yield* Effect.timeout(reserve([one]), "8 seconds")
        assert.isNull(yield* inRedis(redis, one))
        assert.deepStrictEqual(yield* stored(one), once(one))
      }))

    it.scoped("Redis recovers by itself and remembers keys again", () =>
      Effect.gen(function*() {
        const proxy = yield* Proxy.make(inject("redisUrl"))
        const { lines, reserve } = yield* connected(proxy.url)
        const redis = yield* beside(inject("redisUrl"))
        yield* proxy.set("refuse")
        const one = reservation()
        yield* reserve([one])
        assert.isNull(yield* inRedis(redis, one))
        yield* proxy.set("pass")
        yield* reserve([one]).pipe(
          Effect.zipRight(inRedis(redis, one)),
          Effect.filterOrFail((value) => value !== null, () => "not yet" as const),
          Effect.retry({ while: (error) => error === "not yet", schedule: Schedule.spaced("20 millis") }),
          Effect.timeout("20 seconds")
        )
        assert.deepStrictEqual(yield* stored(one), once(one))
        assert.deepStrictEqual(ofRedis(lines), ["redis answers", "redis is away", "redis answers"])
      }))

    it.scoped("an unknown status adds no metric label", () =>
      Effect.gen(function*() {
        const counted = yield* counting
        yield* Intake.countOthers([
          "CREATED",
          "FAILED",
          "COMPLETED",
          "failed",
          "x",
          "y",
          "__proto__",
          "constructor",
          ""
        ], 0)
        yield* Intake.countOthers([], 0)
        const of = yield* counted
        assert.deepStrictEqual(
          ["CREATED", "FAILED", "COMPLETED", "other", "x", ""].map((status) =>
            of(`payments_inventory_ignored_total ${status}`.trimEnd())
          ),
          [1, 1, 1, 6, 0, 0]
        )
        assert.strictEqual(of("payments_inventory_records_total ignored"), 9)
      }))
  }
)
