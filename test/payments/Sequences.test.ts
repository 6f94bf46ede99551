import { SqlClient } from "@effect/sql"
import { assert, layer } from "@effect/vitest"
import { Effect, Layer, Logger, Option, Redacted, Schedule } from "effect"
import { randomUUID } from "node:crypto"
import { OrderId } from "../../src/domain/Payment.js"
import * as Postgres from "../../src/infra/postgres/Postgres.js"
import { behind } from "../../src/infra/postgres/PostgresSequence.js"
import { Health } from "../../src/infra/runtime/Health.js"
import * as Parts from "../../src/ops/Parts.js"
import { Outbox } from "../../src/outbox/Outbox.js"
import { OutboxWake } from "../../src/outbox/OutboxWake.js"
import { PaymentRepo } from "../../src/payments/PaymentRepo.js"
import { Payments } from "../../src/payments/Payments.js"
import { Sequences } from "../../src/payments/Sequences.js"
import { until } from "../harness/Eventually.js"
import * as PgTest from "../harness/PgTest.js"

/** What was logged since the last look. */
const lines: Array<string> = []
const logged = () => lines.splice(0)
const logger = Logger.replace(
  Logger.defaultLogger,
  Logger.make(({ logLevel, message }) => void lines.push(`${logLevel.label} ${[message].flat().join(" ")}`))
)

const services = Payments.Default.pipe(
  Layer.merge(Parts.layer({ running: ["grpc"], rights: {} })),
  Layer.provide(PaymentRepo.Default),
  Layer.provideMerge(Sequences.Default),
  Layer.provide(Outbox.Default({ topic: "payment", lease: "30 seconds", maxAttempts: 10 })),
  Layer.provide(OutboxWake.layerLocal),
  Layer.provideMerge(logger)
)

let last = 1n
const orders = (n: number) => Array.from({ length: n }, () => OrderId.make(last++))
const reserve = Effect.fnUntraced(function*(ids: ReadonlyArray<OrderId>) {
  const payments = yield* Payments
  const decisions = yield* payments.reserve(
    ids.map((orderId) => ({ orderId, idempotentKey: randomUUID(), traceparent: Option.none() }))
  )
  assert.deepStrictEqual(decisions.map((_) => _._tag), ids.map(() => "Created"))
})
const settle = (orderId: OrderId) => Effect.flatMap(Payments, (payments) => payments.settle(orderId, "COMPLETED"))

const run = (...statements: ReadonlyArray<string>) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) => sql.unsafe<Record<string, any>>(statements.join(";")))
/** Both tables and their sequences as they are when they are new. */
const anew = Effect.zipRight(
  run(
    "TRUNCATE payment, event RESTART IDENTITY",
    "ALTER SEQUENCE payment_id_seq AS bigint NO MAXVALUE INCREMENT 1 CACHE 1 NO CYCLE",
    "ALTER SEQUENCE event_id_seq AS bigint NO MAXVALUE INCREMENT 1 CACHE 1 NO CYCLE"
  ),
  Effect.sync(logged)
)
/** Payments and events that were written elsewhere: the sequences do not know them. */
const rows = (n: number) =>
  run(
    `INSERT INTO payment (id, order_id, status) SELECT n, 1000000000 + n, 'COMPLETED' FROM generate_series(1, ${n}) AS n`,
    `INSERT INTO event (id, topic, order_id, payload, status, done_at)
     SELECT n, 'payment', 1000000000 + n, '{}', 'DONE', clock_timestamp() FROM generate_series(1, ${n}) AS n`
  )
const positions = Effect.map(
  run("SELECT (SELECT last_value FROM payment_id_seq) AS payment, (SELECT last_value FROM event_id_seq) AS event"),
  ([row]) => ({ payment: Number(row!.payment), event: Number(row!.event) })
)
/** What an order has: the status of its payment, and what its events say. */
const stateOf = (order: bigint) =>
  Effect.map(
    run(`SELECT status, ARRAY(SELECT payload::json ->> 'status' FROM event WHERE event.order_id = payment.order_id
                              ORDER BY created_at) AS says FROM payment WHERE order_id = ${order}`),
    ([row]) => `${row?.status} ${row?.says}`
  )
const ready = Effect.flatMap(Health, (health) => health.current()).pipe(
  Effect.map(({ dependencies }) => dependencies.postgres!.reason ?? "ok")
)
const failure = <A, E extends Error, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.map(Effect.flip(effect), (error) => error.message)

/** Succeeds within a few seconds: a repair that failed is not tried again for one. */
const soon = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  effect.pipe(Effect.retry(Schedule.spaced("50 millis")), Effect.timeout("10 seconds"))

const readyAgain = soon(Effect.filterOrFail(ready, (reason) => reason === "ok"))

layer(Layer.provideMerge(services, PgTest.layer), { timeout: "60 seconds", excludeTestServices: true })(
  "sequences that are behind their rows",
  (it) => {
    for (const ids of [3, 1_931, 20_000]) {
      it.effect(`${ids} ids behind: the next payment and settlement set the sequences forward once, and log it`, () =>
        Effect.gen(function*() {
          yield* anew
          yield* rows(ids)
          const all = orders(40)
          yield* reserve(all)
          assert.strictEqual(yield* stateOf(all[0]!), "CREATED CREATED")
          assert.lengthOf(yield* run("SELECT FROM event WHERE status = 'WAIT'"), 40)
          // a few statements took ids in vain, and no more
          const { event, payment } = yield* positions
          assert.isAtMost(payment, ids + 200)
          assert.isAtMost(event, ids + 200)
          const said = logged()
          // one that is only a few ids behind may be past them by the statement that met them
          assert.isTrue(said.length === 2 || (ids === 3 && said.length === 1), said.join("\n"))
          for (const line of said) {
            assert.match(
              line,
              /^WARN sequence (\w+)_id_seq is \d+ ids behind the rows of table \1: it was set forward$/
            )
          }

          yield* run("ALTER SEQUENCE event_id_seq RESTART")
          yield* Effect.forEach(all, settle, { concurrency: "unbounded" })
          assert.strictEqual(yield* stateOf(all[39]!), "COMPLETED CREATED,COMPLETED")
          assert.lengthOf(logged(), 1)
          assert.strictEqual(yield* ready, "ok")
        }))
    }

    it.effect("collisions between repeats, of a lone settlement, and of a batch over both tables", () =>
      Effect.gen(function*() {
        yield* anew
        const [first, ...more] = orders(10)
        // more than repeated statements get past without a repair
        yield* rows(200)
        yield* reserve([first!])
        yield* run("ALTER SEQUENCE payment_id_seq RESTART", "ALTER SEQUENCE event_id_seq RESTART")
        yield* settle(first!)
        assert.strictEqual(yield* stateOf(first!), "COMPLETED CREATED,COMPLETED")
        yield* run("ALTER SEQUENCE payment_id_seq RESTART", "ALTER SEQUENCE event_id_seq RESTART")
        const payments = yield* Payments
        const batch = [more[0]!, first!, ...more.slice(1)]
        const decisions = yield* payments.reserve(
          batch.map((orderId) => ({ orderId, idempotentKey: randomUUID(), traceparent: Option.none() }))
        )
        assert.deepStrictEqual(decisions.map((_) => _._tag), batch.map((_) => _ === first ? "OrderTaken" : "Created"))
        assert.lengthOf(yield* run("SELECT FROM event"), 202 + more.length)
      }))

    it.effect("many at once: each order gets its payment and its events once", () =>
      Effect.gen(function*() {
        yield* anew
        yield* rows(500)
        const all = orders(24)
        yield* Effect.forEach(all, (order) => Effect.zipRight(reserve([order]), settle(order)), { concurrency: 6 })
        for (const order of all) assert.strictEqual(yield* stateOf(order), "COMPLETED CREATED,COMPLETED")
      }))

    it.effect("the start sets sequences forward before an id collides", () =>
      Effect.gen(function*() {
        yield* anew
        yield* rows(1_931)
        const sequences = yield* Sequences
        assert.deepStrictEqual((yield* sequences.check).map((_) => [_.name, behind(_)]), [
          ["payment_id_seq", 1931n],
          ["event_id_seq", 1931n]
        ])
        yield* sequences.prepare
        assert.lengthOf(logged(), 2)
        assert.deepStrictEqual((yield* sequences.check).map(behind), [0n, 0n])
        yield* reserve(orders(1))
        assert.deepStrictEqual(yield* positions, { payment: 1_932, event: 1_932 })
        yield* sequences.prepare
        assert.lengthOf(logged(), 0)
      }))

    it.effect("one that is ahead, new, set to be called next, or shared in odd and even ids is not behind", () =>
      Effect.gen(function*() {
        const sequences = yield* Sequences
        for (
          const [at, ...given] of [
            [1, "SELECT"],
            [5_000, "ALTER SEQUENCE payment_id_seq RESTART WITH 5000"],
            [11, "SELECT setval('payment_id_seq', 11, false)"],
            [5, "ALTER SEQUENCE payment_id_seq INCREMENT 2 RESTART WITH 5", "DELETE FROM payment WHERE id % 2 = 1"]
          ] as const
        ) {
          yield* anew
          if (at > 1) yield* rows(10)
          yield* run(...given)
          yield* sequences.repair("payment")
          assert.strictEqual((yield* positions).payment, at)
          assert.lengthOf(logged(), 0)
        }
      }))

    it.effect("with another increment, a cache, and ids that fall", () =>
      Effect.gen(function*() {
        for (
          const [id, ...given] of [
            [103, "ALTER SEQUENCE payment_id_seq INCREMENT 2 RESTART WITH 3"],
            [102, "ALTER SEQUENCE payment_id_seq CACHE 20 RESTART"],
            [-1, "ALTER SEQUENCE payment_id_seq INCREMENT -1 MINVALUE -1000 MAXVALUE 1000 START 50 RESTART"]
          ] as const
        ) {
          yield* anew
          yield* run(...given)
          yield* run(
            "INSERT INTO payment (id, order_id, status) SELECT n, 2000000000 + n, 'CREATED' FROM generate_series(0, 101) AS n"
          )
          const [order] = orders(1)
          yield* reserve([order!])
          const [row] = yield* run(`SELECT id FROM payment WHERE order_id = ${order}`)
          assert.strictEqual(Number(row!.id), id, given.join())
        }
        yield* run("ALTER SEQUENCE payment_id_seq INCREMENT 1 MINVALUE 1 NO MAXVALUE START 1 RESTART")
      }))

    it.scoped("used up: no endless retry, the reason in errors, readiness and one log line, over when the cause is", () =>
      Effect.gen(function*() {
        yield* anew
        yield* Effect.forkScoped(Effect.flatMap(Health, (health) => health.watch))
        const said = (text: string) =>
          Effect.map(Effect.sync(() => lines.filter((line) => line.includes(text))), (_) => _.length)
        yield* rows(100)
        const [order, other] = orders(2) as [OrderId, OrderId]
        yield* run("ALTER SEQUENCE payment_id_seq MAXVALUE 100 RESTART WITH 100")
        const why = "sequence payment_id_seq has no ids left for table payment"
        assert.include(yield* failure(reserve([order])), why)
        assert.include(yield* failure(reserve([order])), why)
        yield* until(ready, (reason) => reason.includes(why))
        yield* until(said(why), (n) => n > 0)
        yield* run("ALTER SEQUENCE payment_id_seq NO MAXVALUE")
        yield* soon(reserve([order]))
        yield* readyAgain
        yield* until(said("INFO no longer waiting for an operator"), (n) => n > 0)
        const [begin, ...more] = logged()
        assert.match(begin!, new RegExp(`^WARN waiting for an operator: .*${why}`))
        assert.lengthOf(more, 2)
        assert.match(more[0]!, /^WARN sequence \w+_id_seq is \d+ ids behind/)
        assert.match(more[1]!, /^INFO no longer waiting for an operator/)

        yield* run("SELECT setval('event_id_seq', 9223372036854775807)")
        assert.include(yield* failure(settle(order)), "sequence event_id_seq has no ids left for table event")
        assert.include(yield* failure(reserve([other])), "sequence event_id_seq has no ids left for table event")
        yield* soon(Effect.filterOrFail(ready, (reason) => reason.includes("event_id_seq")))
        assert.strictEqual(yield* stateOf(order), "CREATED CREATED")
        yield* run("SELECT setval('event_id_seq', 1000)")
        yield* soon(settle(order))
        yield* readyAgain
      }))

    it.effect("a column of 32 bits that is full, under a sequence of 64", () =>
      Effect.gen(function*() {
        yield* anew
        const [order] = orders(1)
        yield* run(
          "ALTER TABLE event ALTER COLUMN id DROP IDENTITY",
          "ALTER TABLE event ALTER COLUMN id TYPE integer",
          "CREATE SEQUENCE wide START WITH 2147483648",
          "ALTER TABLE event ALTER COLUMN id SET DEFAULT nextval('wide')"
        )
        assert.include(yield* failure(reserve([order!])), "the last that fits 2147483647")
        yield* run(
          "ALTER TABLE event ALTER COLUMN id TYPE bigint",
          "ALTER TABLE event ALTER COLUMN id DROP DEFAULT",
          "ALTER TABLE event ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY"
        )
        yield* soon(reserve([order!]))
      }))

    it.effect("an id near the largest one does not use up the others", () =>
      Effect.gen(function*() {
        yield* anew
        yield* run("INSERT INTO payment (id, order_id, status) VALUES (9223372036854775800, 3000000000, 'CREATED')")
        const sequences = yield* Sequences
        yield* sequences.prepare
        assert.include(logged().join(), "it is not set forward")
        yield* reserve(orders(1))
        assert.deepStrictEqual(yield* positions, { payment: 1, event: 1 })
        assert.strictEqual(yield* ready, "ok")
      }))

    it.scoped("a role without the right gets the statement to run, and works after it was run", () =>
      Effect.gen(function*() {
        yield* anew
        yield* rows(50)
        const role = `limited_${randomUUID().replaceAll("-", "")}`
        yield* run(
          `CREATE ROLE ${role} LOGIN PASSWORD 'secret'`,
          `GRANT SELECT, INSERT, UPDATE, DELETE ON payment, event TO ${role}`,
          `GRANT SELECT ON outbox_topic TO ${role}`,
          `GRANT USAGE ON SEQUENCE payment_id_seq, event_id_seq TO ${role}`
        )
        yield* Effect.addFinalizer(() => Effect.orDie(run(`DROP OWNED BY ${role}`, `DROP ROLE ${role}`)))
        const url = new URL(yield* PgTest.DatabaseUrl)
        url.username = role
        url.password = "secret"
        const limited = yield* Layer.build(
          Layer.provideMerge(Layer.fresh(services), Postgres.layer({ url: Redacted.make(url.href), maxConnections: 3 }))
        )
        const [order] = orders(1)
        const reserveLimited = Effect.provide(reserve([order!]), limited)
        const message = yield* failure(reserveLimited)
        assert.match(message, /permission denied/)
        const [, statement] = /run (SELECT setval\('payment_id_seq', 50\))/.exec(message) ?? []
        yield* run(statement!, "SELECT setval('event_id_seq', 50)")
        yield* soon(reserveLimited)
      }))

    it.scoped("ids without a sequence, a sequence that the table does not own, and foreign rules", () =>
      Effect.gen(function*() {
        yield* anew
        yield* rows(20)
        const drop = "ALTER TABLE payment ALTER COLUMN id DROP IDENTITY IF EXISTS"
        const restored = (start: number) =>
          run(
            "ALTER TABLE payment ALTER COLUMN id DROP DEFAULT",
            `ALTER TABLE payment ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (START WITH ${start})`
          )
        yield* run(
          drop,
          `CREATE SEQUENCE "Their ""own""'s"`,
          `ALTER TABLE payment ALTER COLUMN id SET DEFAULT nextval('"Their ""own""''s"')`
        )
        yield* reserve(orders(2))
        assert.match(logged().join(), /sequence "Their ""own""'s" is \d+ ids behind/)

        yield* run("ALTER TABLE payment ALTER COLUMN id SET DEFAULT 7")
        assert.include(yield* failure(reserve(orders(1))), "refuses 1 payments that it does not have")
        yield* restored(1_000)

        yield* run(
          "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$",
          "CREATE TRIGGER nothing BEFORE INSERT ON payment FOR EACH ROW EXECUTE FUNCTION nothing()"
        )
        assert.include(yield* failure(reserve(orders(3))), "refuses 3 payments that it does not have")
        yield* run("DROP TRIGGER nothing ON payment")

        yield* run("DELETE FROM event", "CREATE UNIQUE INDEX theirs ON event (topic)")
        const [order] = orders(1)
        yield* reserve([order!]).pipe(Effect.ignore)
        assert.include(yield* failure(reserve(orders(1))), "theirs")
        yield* run("DROP INDEX theirs")
        yield* reserve(orders(1))
      }))
  }
)
