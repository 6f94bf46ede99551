import { assert, layer } from "@effect/vitest"
import { Context, Deferred, Effect, Layer } from "effect"
import { randomUUID } from "node:crypto"
import { readFileSync } from "node:fs"
import * as Net from "node:net"
import * as Command from "../harness/Command.js"
import { eventually } from "../harness/Eventually.js"
import { freePort } from "../harness/FreePort.js"
import { freshDatabase } from "../harness/PgTest.js"
import * as Program from "../harness/Program.js"
import * as Tables from "../harness/Tables.js"
import * as Topics from "../harness/Topics.js"
import * as World from "../harness/World.js"

const nowhere = "http://127.0.0.1:1"

/** Variables of other programs, shells and orchestrators, and settings that the commands of the saga do not use. */
const strange = {
  http_proxy: nowhere,
  https_proxy: nowhere,
  grpc_proxy: nowhere,
  all_proxy: nowhere,
  HTTP_PROXY: nowhere,
  PAYMENTS_PORT: "tcp://10.0.0.1:8081",
  KAFKA_PORT: "tcp://10.0.0.2:9092",
  LOCAL_KAFKA_PORT: "tcp://10.0.0.3:9092",
  DATABASE_URL: "somewhere",
  OUTBOX_LEASE: "long",
  KAFKA_CLIENT_ID: "",
  GRPC_USE_PROXY: " "
}

const setup = Effect.gen(function*() {
  const world = yield* World.make()
  const topics = yield* Topics.make(world.kafkaBrokers)
  yield* topics.create(world.inventory, world.dlq, world.payment)
  const program = yield* Program.serve([], { ...world.env, PAYMENT_EXPIRY: "1h" })
  yield* program.untilReady
  const env = { ...world.env, GRPC_ADDR: program.grpc }
  const cli = (...args: ReadonlyArray<string>) => Program.run(args, { ...env, ...strange })
  const records = yield* topics.follow(world.inventory)
  return { world, program, topics, env, cli, records } as const
})

class Saga extends Context.Tag("test/Saga")<Saga, Effect.Effect.Success<typeof setup>>() {}

interface Ran {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

/** Asserts an error of one line, no output, and this exit code. */
const failed = ({ code, stderr, stdout }: Ran, expected: number, message: RegExp) => {
  assert.strictEqual(code, expected, stderr)
  assert.strictEqual(stdout, "")
  assert.match(stderr, /^payments: [^\n]+\n$/)
  assert.match(stderr, message)
}

const printed = ({ code, stderr, stdout }: Ran) => {
  assert.strictEqual(code, 0, stderr)
  assert.strictEqual(stderr, "")
  return stdout
}

/** A server that accepts connections and never answers. */
const listening = (called: Deferred.Deferred<void>) =>
  Effect.acquireRelease(
    Effect.async<Net.Server>((resume) => {
      const server: Net.Server = Net.createServer(() => Deferred.unsafeDone(called, Effect.void))
      server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
    }),
    (server) => Effect.sync(() => server.close())
  ).pipe(Effect.map((server) => `127.0.0.1:${(server.address() as Net.AddressInfo).port}`))

const both = <A, B, E, R>(a: Effect.Effect<A, E, R>, b: Effect.Effect<B, E, R>) =>
  Effect.all([a, b], { concurrency: 2 })

layer(Layer.scoped(Saga, setup), { timeout: "120 seconds", excludeTestServices: true })("the command line", (it) => {
  it.effect("reserve, pay, refuse and payment: as text and as JSON, with the exit code of each refusal", () =>
    Effect.gen(function*() {
      const { cli, env, records, topics, world } = yield* Saga
      const key = randomUUID()
      const [human, asJson] = yield* both(
        cli("reserve", "111"),
        cli("reserve", "9007199254740993", "--key", key, "--status", "COMPLETED", "--json")
      )
      assert.match(
        printed(human),
        new RegExp(
          `^reserved order 111 \\(inventory record COMPLETED, key [0-9a-f-]{36}\\) at ${world.inventory}/\\d@\\d+\\n$`
        )
      )
      assert.match(
        printed(asJson),
        new RegExp(
          `^\\{"order_id":9007199254740993,"idempotent_key":"${key}","status":"COMPLETED",` +
            `"topic":"${world.inventory}","partition":\\d,"offset":"\\d+"\\}\\n$`
        )
      )
      yield* Effect.sync(() => assert.lengthOf(records, 2)).pipe(eventually())
      assert.include(
        records.map(({ value }) => String(value)),
        `{"idempotent_key":"${key}","order_id":9007199254740993,"status":"COMPLETED"}`
      )
      const published = yield* topics.follow(world.payment)
      yield* Effect.sync(() => assert.lengthOf(published, 2)).pipe(eventually())

      const [paid, refused] = yield* both(cli("pay", "111"), cli("refuse", "9007199254740993", "--json"))
      assert.strictEqual(printed(paid), "order 111 COMPLETED\n")
      assert.strictEqual(printed(refused), "{\"order_id\":9007199254740993,\"status\":\"FAILED\"}\n")

      const [shown, json] = yield* both(cli("payment", "111"), cli("payment", "9007199254740993", "--json"))
      const time = "\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d\\.\\d{3}Z"
      assert.match(printed(shown), new RegExp(`^order 111 COMPLETED, created ${time}, updated ${time}\\n$`))
      assert.match(
        printed(json),
        new RegExp(
          `^\\{"order_id":9007199254740993,"status":"FAILED","created_at":"${time}","updated_at":"${time}"\\}\\n$`
        )
      )

      const [late, unknown] = yield* both(cli("refuse", "111"), cli("pay", "112", "--json"))
      failed(late, 4, /FAILED_PRECONDITION: the payment of order 111 is COMPLETED already/)
      assert.strictEqual(unknown.code, 3)
      assert.strictEqual(unknown.stdout, "")
      assert.deepStrictEqual(JSON.parse(unknown.stderr), {
        error: "NOT_FOUND",
        message: `UpdatePaymentStatus at ${env.GRPC_ADDR}: NOT_FOUND: order 112 has no payment`,
        reason: "PAYMENT_NOT_FOUND",
        metadata: { order_id: "112" }
      })
    }).pipe(Effect.scoped))

  it.effect("PAYMENT_EXPIRY: an old payment fails, its record says why, and so does the refusal of a late call", () =>
    Effect.gen(function*() {
      const { cli, env, topics, world } = yield* Saga
      const tables = yield* Tables.make(world.databaseUrl)
      yield* tables.query(
        "INSERT INTO payment (order_id, status, created_at) VALUES (113, 'CREATED', clock_timestamp() - interval '2 hours')"
      )
      const published = yield* topics.follow(world.payment)
      const record = yield* Effect.sync(() => published.find(({ key }) => String(key) === "113")).pipe(
        Effect.tap((record) => assert.isDefined(record)),
        eventually("30 seconds", "200 millis")
      )
      assert.match(String(record!.value), /^\{"idempotent_key":"[0-9a-f-]{36}","order_id":113,"status":"FAILED"\}$/)
      assert.strictEqual(String(record!.headers["payment-reason"]), "expired")
      const [late, refused] = yield* both(cli("pay", "113", "--json"), cli("refuse", "113"))
      assert.strictEqual(late.code, 4)
      assert.deepStrictEqual(JSON.parse(late.stderr), {
        error: "FAILED_PRECONDITION",
        message:
          `UpdatePaymentStatus at ${env.GRPC_ADDR}: FAILED_PRECONDITION: the payment of order 113 has expired: it is FAILED`,
        reason: "PAYMENT_EXPIRED",
        metadata: { order_id: "113", status: "FAILED" }
      })
      assert.strictEqual(printed(refused), "order 113 FAILED\n")
    }).pipe(Effect.scoped))

  it.effect("doctor: 0 without a finding, 1 with findings, 5 when a server does not answer", () =>
    Effect.gen(function*() {
      const { env, program } = yield* Saga
      const [clean, wrong] = yield* both(
        Command.run(["doctor", "grpc"], env),
        Command.run(["doctor", "--json"], env)
      )
      assert.match(
        printed(clean),
        /^PostgreSQL\n {2}ok [^]*\nno findings: \d+ of \d+ checks are right, 0 could not be checked\n$/
      )
      // the dead-letter topic of this test takes no more than the inventory topic
      assert.strictEqual(wrong.code, 1)
      assert.deepStrictEqual(JSON.parse(wrong.stderr), { error: "DoctorFindings", message: "the doctor has 1 finding" })
      const documents = wrong.stdout.trimEnd().split("\n").map((line) => JSON.parse(line))
      assert.deepInclude(documents.at(-1), { clean: false, findings: 1, not_checked: 0 })
      assert.deepStrictEqual(documents.filter(({ state }) => state === "finding").map(({ check }) => check), [
        "topic.max_message"
      ])
      const away = yield* Command.run(["doctor"], { ...env, REDIS_URL: "redis://127.0.0.1:1" })
      assert.strictEqual(away.code, 5)
      assert.match(away.stdout, /\n {2}not checked {2}redis is not available: [^\n]*ECONNREFUSED/)
      assert.match(away.stderr, /^payments: redis is not available\n$/)
      // a process logs what it finds, once, ten seconds after its start
      const warnings = Effect.sync(() =>
        program.stderr().split("\n").filter((line) => line.includes("max.message.bytes"))
      )
      yield* warnings.pipe(Effect.tap((lines) => assert.lengthOf(lines, 1)), eventually())
    }))

  it.effect("watch follows the topic, one line a record, until a signal", () =>
    Effect.gen(function*() {
      const { env, topics, world } = yield* Saga
      const all = yield* Program.start(["watch", "--json", "--from-beginning"], env)
      const fresh = yield* Program.start(["watch"], env)
      // nothing shows when the watch from the end has its position: write until it prints a record
      let orderId = 500
      yield* Effect.gen(function*() {
        yield* topics.write(world.inventory, { value: Topics.reserved(orderId++) })
        assert.include(fresh.stdout(), "\n")
      }).pipe(eventually("30 seconds", "200 millis"))
      assert.match(
        fresh.stdout().split("\n")[0]!,
        new RegExp(
          `^${world.payment}/\\d@\\d+  \\{"idempotent_key":"[0-9a-f-]{36}","order_id":5\\d+,"status":"CREATED"\\}$`
        )
      )
      const lines = Effect.sync(() => all.stdout().trimEnd().split("\n"))
      const first = yield* lines.pipe(
        Effect.map((lines) => lines.find((line) => line.includes("order_id\\\":500,"))),
        Effect.tap((line) => assert.isString(line)),
        eventually()
      )
      const { key, value, ...place } = JSON.parse(first!)
      assert.strictEqual(key, "500")
      assert.strictEqual(JSON.parse(value).status, "CREATED")
      assert.sameMembers(Object.keys(place), ["partition", "offset"])
      for (const [watcher, signal] of [[all, "SIGHUP"], [fresh, "SIGINT"]] as const) {
        yield* watcher.signal(signal)
        assert.deepStrictEqual(yield* watcher.ended, { code: 0, signal: null })
        assert.strictEqual(watcher.stderr(), "")
      }
    }).pipe(Effect.scoped))

  it.effect("a closed output ends watch silently and leaves no group; a service goes on without its log", () =>
    Effect.gen(function*() {
      const { env, topics, world } = yield* Saga
      const before = yield* topics.groups
      const watching = Program.shell("(payments watch --from-beginning; echo ended with $? >&2) | head -1", env)
      const serving = Effect.gen(function*() {
        const service = yield* Program.serve(["grpc"], world.env)
        yield* Effect.sync(() => assert.isNotEmpty(service.stderr())).pipe(eventually("30 seconds"))
        yield* service.hangUp
        yield* service.untilReady
        yield* service.signal("SIGTERM")
        return yield* service.ended
      }).pipe(Effect.scoped)
      const [watched, served] = yield* both(watching, serving)
      assert.match(watched.stdout, /^[^\n]+"status":"(CREATED|COMPLETED|FAILED)"\}\n$/)
      assert.strictEqual(watched.stderr, "ended with 0\n")
      assert.deepStrictEqual(served, { code: 0, signal: null })
      yield* Effect.map(
        topics.groups,
        (groups) =>
          assert.isEmpty(groups.filter((group) => group.startsWith("payments-reader-tail-") && !before.includes(group)))
      ).pipe(
        eventually()
      )
    }))

  it.effect("a result that cannot be written is a failure, and an interrupted command has the signal's exit code", () =>
    Effect.gen(function*() {
      const called = yield* Deferred.make<void>()
      const mute = yield* listening(called)
      const stopped = Effect.gen(function*() {
        const pay = yield* Program.start(["pay", "1"], { GRPC_ADDR: mute })
        yield* Deferred.await(called)
        yield* pay.signal("SIGINT")
        return yield* pay.ended
      }).pipe(Effect.scoped)
      const [full, ended] = yield* both(Program.shell("payments drills >/dev/full", {}), stopped)
      failed(full, 1, /cannot write to standard output: .*ENOSPC/)
      assert.deepStrictEqual(ended, { code: 130, signal: null })
    }).pipe(Effect.scoped))

  it.effect("an operator finds and repairs a dead event and a dead letter, and each command says what to do next", () =>
    Effect.gen(function*() {
      const { env, topics, world } = yield* Saga
      const tables = yield* Tables.make(world.databaseUrl)
      const operate = (...args: ReadonlyArray<string>) => Command.run(args, { ...env, EDITOR: "sed -i s/seven/707/" })
      yield* tables.query("INSERT INTO payment (order_id, status) VALUES (706, 'CREATED')")
      const key = randomUUID()
      const [row] = yield* tables.query<{ readonly id: string }>(
        `INSERT INTO event (topic, order_id, payload, status, attempts, last_error)
         VALUES ($1, 706, $2, 'DEAD', 10, 'MESSAGE_TOO_LARGE') RETURNING id`,
        [world.payment, Topics.reserved(706, key, "CREATED")]
      )
      yield* topics.write(world.inventory, { value: Topics.reserved(707).replace(":707,", ":seven,") })
      const [story, asked] = yield* both(operate("order", "706"), operate("outbox", "retry", "--all"))
      assert.match(
        printed(story),
        new RegExp(
          `is dead after 10 attempts \\(MESSAGE_TOO_LARGE\\)[^]*\n  payments outbox retry --event ${
            row!.id
          } --reason <why>\n$`
        )
      )
      assert.strictEqual(asked.code, 2)
      assert.match(asked.stderr, /this would retry 1 event: give --yes to do it, or --dry-run to look/)
      const [payment, retried] = yield* both(
        operate("payment", "706"),
        operate(
          "outbox",
          "retry",
          "--event",
          row!.id,
          "--reason",
          "larger limit",
          "--operator",
          "ann",
          "--yes",
          "--json"
        )
      )
      assert.match(
        printed(payment),
        /is dead \(MESSAGE_TOO_LARGE\)\. payments order 706 says what to do|^order 706 CREATED/
      )
      assert.deepInclude(JSON.parse(printed(retried)), {
        planned: 1,
        changed: 1,
        operator: "ann",
        reason: "larger limit"
      })
      yield* tables.events(706).pipe(
        Effect.tap(([event]) =>
          assert.deepInclude(event, { status: "DONE", payload: Topics.reserved(706, key, "CREATED") })
        ),
        eventually()
      )

      const [listed, after] = yield* both(operate("dead-letters", "list", "--json"), operate("order", "706", "--json"))
      const letter = printed(listed).trimEnd().split("\n").map((line) => JSON.parse(line)).find((line) =>
        line.offset !== undefined
      )
      assert.deepInclude(JSON.parse(printed(after)), { order_id: 706, state: "created", command: "payments pay 706" })
      const place = `${letter.partition}@${letter.offset}`
      const [refused, edited] = yield* both(
        operate("dead-letters", "replay", place, "--reason", "as it was", "--yes"),
        operate("dead-letters", "replay", place, "--edit", "--reason", "seven is 707", "--yes")
      )
      assert.match(
        printed(refused),
        /left out: 1 .* it would be a dead letter again: value is not JSON|nothing to change/
      )
      assert.match(printed(edited), /^replay 1 dead letter: 1 done\. /m)
      yield* tables.payments(707).pipe(Effect.tap((rows) => assert.lengthOf(rows, 1)), eventually())
      const [shown, operations] = yield* both(operate("dead-letters", "show", place), operate("operations"))
      assert.match(printed(shown), /^replays   replayed .*\n[^]*^value     .*:seven,/m)
      assert.match(
        printed(operations),
        /dead-letters replay +order 707 .*seven is 707\n.* ann +outbox retry +order 706 /
      )
    }).pipe(Effect.scoped))

  it.effect("migrate: pending migrations, then nothing; a database that is away is an error without a password", () =>
    Effect.gen(function*() {
      const { env } = yield* Saga
      const url = yield* freshDatabase
      const migrate = (DATABASE_URL: string) => Command.run(["migrate"], { ...env, DATABASE_URL })
      const [first, away] = yield* both(migrate(url), migrate("postgres://payments:hush-hush@127.0.0.1:1/payments"))
      assert.strictEqual(
        printed(first),
        "migrated: payment_and_outbox, adopt_and_index, shards, room_on_pages, topic_spread, operation, expiry, settled_by\n"
      )
      failed(away, 5, /database is not available/)
      assert.notInclude(away.stderr, "hush-hush")
      assert.strictEqual(printed(yield* migrate(url)), "nothing to migrate\n")
    }).pipe(Effect.scoped))

  it.effect("a server that does not answer is exit code 5", () =>
    Effect.gen(function*() {
      const port = yield* freePort
      const nowhere = { GRPC_ADDR: `127.0.0.1:${port}`, KAFKA_BROKERS: `127.0.0.1:${port}` }
      const [pay, reserve] = yield* both(
        Command.run(["pay", "1"], nowhere),
        Command.run(["reserve", "1"], nowhere)
      )
      failed(pay, 5, new RegExp(`127.0.0.1:${port}`))
      failed(reserve, 5, /kafka is not available/)
    }))

  it.effect("config shows every setting in effect and no secret, as text and as JSON", () =>
    Effect.gen(function*() {
      const env = {
        DATABASE_URL: "postgres://app:hush-hush@db.example:5432/payments",
        REDIS_URL: "redis://:hush-hush@cache.example:6379",
        OTEL_EXPORTER_OTLP_HEADERS: "authorization=hush-hush",
        SHUTDOWN_TIMEOUT: "90s"
      }
      const [human, json] = yield* both(Command.run(["config"], env), Command.run(["config", "--json"], env))
      for (const text of [human, json].map(printed)) assert.notInclude(text, "hush-hush")
      const settings = JSON.parse(json.stdout) as Record<string, string>
      assert.deepInclude(settings, {
        DATABASE_URL: "postgres://app:<redacted>@db.example:5432/payments",
        REDIS_URL: "redis://:<redacted>@cache.example:6379",
        KAFKA_BROKERS: "localhost:9095",
        SHUTDOWN_TIMEOUT: "1m 30s"
      })
      assert.deepStrictEqual(
        human.stdout.trimEnd().split("\n").map((line) => line.split(/ +/, 1)[0]),
        Object.keys(settings)
      )
    }))

  it.effect("--help lists every command, --version prints the version of package.json", () =>
    Effect.gen(function*() {
      const [help, version] = yield* both(Program.run(["--help"], {}), Program.run(["--version"], {}))
      for (
        const command of [
          "serve",
          "start",
          "migrate",
          "config",
          "reserve",
          "pay",
          "refuse",
          "payment",
          "watch",
          "local"
        ]
      ) {
        assert.match(printed(help), new RegExp(`^  ${command} +[A-Z]`, "m"))
      }
      const { version: ours } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"))
      assert.strictEqual(printed(version).trim(), ours)
    }))

  it.effect("a wrong command line is exit code 2, with the error on standard error", () =>
    Effect.gen(function*() {
      const { env } = yield* Saga
      const ran = yield* Effect.forEach(
        [["pay", "0x10"], ["reserve", "1", "--key", "no-uuid"], ["local", "dwon"], [
          "shards",
          "--sent",
          "1",
          "--unsent",
          "1"
        ]],
        (args) => Command.run(args, env),
        { concurrency: 2 }
      )
      const problems = [
        /order_id is not a whole number from 1 to 9223372036854775807, in decimal digits: "0x10"/,
        /--key is not a UUID: "no-uuid"/,
        /no command "local dwon"\. Did you mean "down"\?/,
        /only one of --sent, --unsent and --count/
      ]
      ran.forEach((result, i) => failed(result, 2, problems[i]!))
    }))
})
