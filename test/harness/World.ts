import { NodeContext } from "@effect/platform-node"
import { Effect } from "effect"
import { randomUUID } from "node:crypto"
import type { Part } from "../../src/local/LocalStackError.js"
import * as Stack from "../../src/local/Stack.js"
import type { Environment } from "./Program.js"

/** Servers, and on them a database, topics and a group that nobody else uses. */
export interface World {
  readonly databaseUrl: string
  readonly redisUrl: string
  readonly kafkaBrokers: string
  readonly inventory: string
  readonly dlq: string
  readonly payment: string
  readonly group: string
  /** All of it, as the program is told. */
  readonly env: Environment
}

/** Where the servers of a world are. */
export type Servers = Pick<World, "databaseUrl" | "redisUrl" | "kafkaBrokers">

/** A world on these servers; the database is all its own. */
export const on = (servers: Servers): World => {
  const id = randomUUID().slice(0, 8)
  const [inventory, dlq, payment, group] = [`inventory-${id}`, `dlq-${id}`, `payment-${id}`, `group-${id}`] as const
  return {
    ...servers,
    inventory,
    dlq,
    payment,
    group,
    env: {
      DATABASE_URL: servers.databaseUrl,
      REDIS_URL: servers.redisUrl,
      KAFKA_BROKERS: servers.kafkaBrokers,
      INVENTORY_TOPIC: inventory,
      INVENTORY_DLQ_TOPIC: dlq,
      PAYMENT_TOPIC: payment,
      KAFKA_GROUP_ID: group,
      // the shortest that brokers allow: tests wait for the partitions of those that were killed
      KAFKA_SESSION_TIMEOUT: "6s"
    }
  }
}

/** A world on the servers of a run of tests, but for those that are given. */
export const make = Effect.fnUntraced(function*(given: Partial<Servers> = {}) {
  const { databaseUrl, kafkaBrokers, redisUrl } = given
  if (databaseUrl !== undefined && redisUrl !== undefined && kafkaBrokers !== undefined) {
    return on({ databaseUrl, redisUrl, kafkaBrokers })
  }
  // only where there are any: whoever brings all servers need not be a test
  const shared = yield* Effect.promise(() => import("./Shared.js"))
  return on({ ...shared.servers(), databaseUrl: databaseUrl ?? (yield* shared.freshDatabase), ...given })
})

/** A name in .local for the data of a server of one's own. */
export const freshFolder = Effect.sync(() => `.local/e2e-${randomUUID().slice(0, 8)}`)

/** Runs one server of one's own for the life of the scope, and deletes it with its data then. */
export const server = Effect.fnUntraced(function*(part: Part, port: number) {
  return yield* Stack.start({
    folder: yield* freshFolder,
    cache: ".local/cache",
    ports: { postgres: 0, redis: 0, kafka: 0, [part]: port },
    parts: [part],
    throwaway: true
  })
}, Effect.provide(NodeContext.layer))
