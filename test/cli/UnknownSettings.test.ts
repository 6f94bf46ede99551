import { assert, it } from "@effect/vitest"
import { unknownAmong } from "../../src/cli/UnknownSettings.js"
import { settings } from "../../src/Config.js"

it("a name that no setting has is told with the nearest setting", () => {
  const found = unknownAmong([
    "SHUTDOWN_TIMOUT",
    "KAFKA_BROKER",
    "DATABASE_URI",
    "OUTBOX_PARALLELISM",
    "INVENTORY_ACCEPTED_STATUSES"
  ])
  assert.deepStrictEqual(found.map(({ name, nearest }) => [name, nearest]), [
    ["SHUTDOWN_TIMOUT", "SHUTDOWN_TIMEOUT"],
    ["KAFKA_BROKER", "KAFKA_BROKERS"],
    ["DATABASE_URI", "DATABASE_URL"],
    ["OUTBOX_PARALLELISM", found[3]!.nearest],
    ["INVENTORY_ACCEPTED_STATUSES", "INVENTORY_ACCEPT_STATUSES"]
  ])
})

it("settings, and variables of other programs, are not told", () => {
  const names = [
    ...Object.values(settings).map(({ name }) => name),
    "PATH",
    "HOME",
    "LOGNAME",
    "HOSTNAME",
    "NODE_OPTIONS",
    "PGHOST",
    "KAFKA_HEAP_OPTS",
    "KAFKA_PORT",
    "KAFKA_SERVICE_HOST",
    "REDIS_PORT",
    "REDIS_PORT_6379_TCP_ADDR",
    "PAYMENTS_SERVICE_PORT",
    "PAYMENTS_PORT",
    "INVENTORY_SERVICE_HOST",
    "INVENTORY_PORT_8081_TCP",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
    "OTEL_TRACES_SAMPLER",
    "database_url"
  ]
  assert.deepStrictEqual(unknownAmong(names), [])
})
