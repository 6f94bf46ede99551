import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, Effect, Either, Option, Redacted } from "effect"
import { readSettings, settings } from "../src/Config.js"
import type { Setting } from "../src/infra/runtime/Setting.js"

const all: ReadonlyArray<Setting<any>> = Object.values(settings)

const keys = Object.keys(settings) as ReadonlyArray<keyof typeof settings>

const load = (environment: Record<string, string>, names = keys) =>
  readSettings(...names).pipe(
    Effect.withConfigProvider(ConfigProvider.fromMap(new Map(Object.entries(environment))))
  )

/** For each variable what it does not take; whatever is not here takes any text. */
const bad: Record<string, ReadonlyArray<string>> = {
  DATABASE_URL: ["localhost", "redis://localhost", "mysql://localhost"],
  DATABASE_POOL_SIZE: ["1", "501", "ten"],
  REDIS_URL: ["localhost:6379", "postgres://localhost"],
  DEDUPE_TTL: ["7", "0s", "999ms", "week"],
  KAFKA_BROKERS: ["localhost", "a:x"],
  KAFKA_CREATE_TOPICS: ["yes", "1"],
  INVENTORY_ACCEPT_STATUSES: [","],
  GRPC_ADDR: ["8081", ":8081", "a:x"],
  HTTP_ADDR: ["8082", "localhost"],
  GRPC_USE_PROXY: ["maybe"],
  GRPC_AUTH: ["yes", "JWT"],
  GRPC_AUTH_CERTIFICATE_NAMES: [",", "orders", "orders=", "orders=admin", "a=payments:read,a=payments:settle"],
  GRPC_JWKS_URL: ["issuer.example", "ftp://issuer.example"],
  GRPC_CALLS_PER_SECOND: ["0", "many"],
  GRPC_TLS: ["on"],
  GRPC_TOKEN: ["short"],
  INSECURE: ["yes"],
  MIGRATE_ON_START: ["on"],
  OUTBOX_DELIVERY: ["at-most-once", "AT-LEAST-ONCE"],
  OUTBOX_BATCH_SIZE: ["0", "10001"],
  OUTBOX_POLL_INTERVAL: ["9ms", "1"],
  OUTBOX_LEASE: ["999ms", "30"],
  OUTBOX_MAX_ATTEMPTS: ["0", "1001"],
  OUTBOX_RETENTION: ["0d", "forever"],
  SHUTDOWN_TIMEOUT: ["0s", "20"],
  LOG_LEVEL: ["Verbose"],
  OTEL_EXPORTER_OTLP_ENDPOINT: ["localhost:4318", "grpc://localhost"],
  OTEL_EXPORTER_OTLP_HEADERS: ["token"],
  OTEL_RESOURCE_ATTRIBUTES: ["staging"],
  PAYMENTS_DRILL: ["nowhere", "relay-sent:0", "relay-sent:x"],
  PAYMENTS_DRILLS_ALLOWED: ["yes"],
  LOCAL_POSTGRES_PORT: ["65536", "any"],
  LOCAL_REDIS_PORT: ["-1"],
  LOCAL_KAFKA_PORT: ["70000"]
}

describe("Config", () => {
  for (const setting of all) {
    it(`${setting.name}: its default and its example are good`, () => {
      for (const text of [setting.default, setting.example]) {
        const value = Either.getOrThrow(setting.parse(text))
        assert.isString(setting.show(value))
        assert.deepStrictEqual(setting.parse(text), Either.right(value))
      }
      assert.match(setting.about, /^[A-Z].*\.$/)
      assert.match(setting.name, /^[A-Z]+(_[A-Z]+)*$/)
    })

    it.effect(`${setting.name}: a bad value gives the variable, the problem and an example`, () =>
      Effect.gen(function*() {
        for (const value of bad[setting.name] ?? []) {
          const { message, problems } = yield* Effect.flip(Effect.asVoid(load({ [setting.name]: value })))
          assert.lengthOf(problems, 1)
          const { example, problem, variable } = problems[0]!
          assert.deepStrictEqual([variable, example], [setting.name, setting.example])
          assert.match(problem, /^(is|has|asks) /)
          assert.include(message, `${setting.name} ${problem}, e.g. ${setting.name}=${example}`)
        }
      }))
  }

  it.effect("a variable that is there and empty counts as unset, and blanks at the ends are no part of a value", () =>
    Effect.gen(function*() {
      const shown = (values: Effect.Effect.Success<ReturnType<typeof load>>) =>
        keys.map((key) => (settings[key] as Setting<any>).show(values[key]))
      const unset = shown(yield* load({}))
      for (const empty of ["", " ", "\t\r\n"]) {
        assert.deepStrictEqual(shown(yield* load(Object.fromEntries(all.map(({ name }) => [name, empty])))), unset)
      }
      // one by one: the examples of all together contradict each other
      for (const key of keys) {
        const { example, name } = settings[key]
        const padded = yield* load({ [name]: ` ${example}\r` }, [key])
        assert.deepStrictEqual(padded[key], (yield* load({ [name]: example }, [key]))[key])
      }
    }))

  it.effect("a comma too many in a list is no item", () =>
    Effect.gen(function*() {
      const config = yield* load({
        KAFKA_BROKERS: "a:1, b:2,",
        INVENTORY_ACCEPT_STATUSES: ",COMPLETED,,CREATED",
        OTEL_RESOURCE_ATTRIBUTES: "a=b,",
        OTEL_EXPORTER_OTLP_HEADERS: ", x=y ,"
      })
      assert.deepStrictEqual(config.kafkaBrokers, ["a:1", "b:2"])
      assert.deepStrictEqual(config.inventoryAcceptStatuses, ["COMPLETED", "CREATED"])
      assert.deepStrictEqual(Redacted.value(Option.getOrThrow(config.otelResourceAttributes)), { a: "b" })
      assert.deepStrictEqual(Redacted.value(Option.getOrThrow(config.otelHeaders)), { x: "y" })
    }))

  it.effect("only the settings that are asked for are judged", () =>
    Effect.gen(function*() {
      const environment = Object.fromEntries(Object.entries(bad).map(([name, [value]]) => [name, value!]))
      const { grpcUseProxy, kafkaGroupId } = yield* load({ ...environment, GRPC_USE_PROXY: "" }, [
        "kafkaGroupId",
        "grpcUseProxy"
      ])
      assert.deepStrictEqual([kafkaGroupId, grpcUseProxy], ["payments", false])
    }))

  it("no variable has two meanings", () => assert.strictEqual(new Set(all.map(({ name }) => name)).size, all.length))

  it("what is promised by name is there", () =>
    assert.includeMembers(all.map(({ name }) => name), [
      "DATABASE_URL",
      "REDIS_URL",
      "KAFKA_BROKERS",
      "KAFKA_GROUP_ID",
      "KAFKA_CLIENT_ID",
      "INVENTORY_TOPIC",
      "INVENTORY_DLQ_TOPIC",
      "INVENTORY_ACCEPT_STATUSES",
      "PAYMENT_TOPIC",
      "GRPC_ADDR",
      "HTTP_ADDR",
      "MIGRATE_ON_START",
      "KAFKA_CREATE_TOPICS",
      "DEDUPE_TTL",
      "OUTBOX_DELIVERY",
      "OUTBOX_BATCH_SIZE",
      "OUTBOX_POLL_INTERVAL",
      "OUTBOX_LEASE",
      "OUTBOX_MAX_ATTEMPTS",
      "OUTBOX_RETENTION",
      "SHUTDOWN_TIMEOUT",
      "LOG_LEVEL"
    ]))

  it.effect("all problems at once", () =>
    Effect.gen(function*() {
      const environment = Object.fromEntries(Object.entries(bad).map(([name, [value]]) => [name, value!]))
      const { problems } = yield* Effect.flip(Effect.asVoid(load(environment)))
      assert.sameMembers(problems.map(({ variable }) => variable), Object.keys(environment))
    }))

  it.effect("the documented settings beside the Go services", () =>
    Effect.gen(function*() {
      const config = yield* load({ INVENTORY_ACCEPT_STATUSES: "COMPLETED,CREATED", SHUTDOWN_TIMEOUT: "5s" })
      assert.deepStrictEqual(config.inventoryAcceptStatuses, ["COMPLETED", "CREATED"])
      assert.deepStrictEqual((yield* load({})).inventoryAcceptStatuses, ["COMPLETED"])
      assert.deepStrictEqual((yield* load({})).kafkaBrokers, ["localhost:9095"])
    }))

  it("secrets are not shown", () => {
    const shown = (name: string, text: string) => {
      const setting = all.find((setting) => setting.name === name)!
      return setting.show(Either.getOrThrow(setting.parse(text)))
    }
    const cases: ReadonlyArray<readonly [string, string]> = [
      ["DATABASE_URL", "postgres://user:hunter2@db/payments"],
      ["DATABASE_URL", "postgres://user:p@hunter2@db/payments"],
      ["DATABASE_URL", "postgres://db/payments?user=user&password=hunter2"],
      ["REDIS_URL", "rediss://:hunter2@redis:6379"],
      ["OTEL_EXPORTER_OTLP_ENDPOINT", "https://user:hunter2@collector"],
      ["OTEL_EXPORTER_OTLP_HEADERS", "authorization=hunter2"],
      ["OTEL_RESOURCE_ATTRIBUTES", "note=hunter2"]
    ]
    for (const [name, text] of cases) assert.notInclude(shown(name, text), "hunter2", name)
    assert.strictEqual(
      shown("DATABASE_URL", "postgres://user:hunter2@db/payments"),
      "postgres://user:<redacted>@db/payments"
    )
  })
})
