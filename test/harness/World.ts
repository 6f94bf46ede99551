import * as NodeContext from "@effect/platform-node/NodeContext"
import { Effect } from "effect"
import { randomUUID } from "node:crypto"
import type { Part } from "../../src/local/LocalStackError.js"
import * as Stack from "../../src/local/Stack.js"
import type { Environment } from "./Program.js"

/** Servers, with a database, topics and a group that no other test uses. */
export interface World {
  readonly databaseUrl: string
  readonly redisUrl: string
  readonly kafkaBrokers: string
  readonly inventory: string
  readonly dlq: string
  readonly payment: string
  readonly group: string
  /** All of it as environment variables of the program. */
  readonly env: Environment
}

/** Addresses of the servers. */
export type Servers = Pick<World, "databaseUrl" | "redisUrl" | "kafkaBrokers">

/** A world on these servers, which has the database for itself. */
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
      // the shortest that brokers allow, because tests wait for the partitions of killed processes
      KAFKA_SESSION_TIMEOUT: "6s"
    }
  }
}

/** A world on the given servers; the shared servers of the test run replace missing ones. */
export const make = Effect.fnUntraced(function*(given: Partial<Servers> = {}) {
  const { databaseUrl, kafkaBrokers, redisUrl } = given
  if (databaseUrl !== undefined && redisUrl !== undefined && kafkaBrokers !== undefined) {
    return on({ databaseUrl, redisUrl, kafkaBrokers })
  }
  // imported only when needed: a caller with its own servers need not run under vitest
  const shared = yield* Effect.promise(() => import("./Shared.js"))
  return on({ ...shared.servers(), databaseUrl: databaseUrl ?? (yield* shared.freshDatabase), ...given })
})

/** A new folder name in .local for the data of a server. */
export const freshFolder = Effect.sync(() => `.local/e2e-${process.ppid}-${randomUUID().slice(0, 8)}`)

/** Runs one separate server for the life of the scope, and deletes its data at the end. */
export const server = Effect.fnUntraced(function*(part: Part, port: number, options: Partial<Stack.StackOptions> = {}) {
  return yield* Stack.start({
    folder: yield* freshFolder,
    cache: ".local/cache",
    ports: { postgres: 0, redis: 0, kafka: 0, [part]: port },
    parts: [part],
    throwaway: true,
    ...options
  })
}, Effect.provide(NodeContext.layer))
