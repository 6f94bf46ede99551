import * as NodeContext from "@effect/platform-node/NodeContext"
import { ConfigProvider, Effect, Logger, LogLevel } from "effect"
import { randomUUID } from "node:crypto"
import { serve } from "../../src/cli/Serve.js"
import { eventually } from "../harness/Eventually.js"
import { freePort } from "../harness/FreePort.js"
import * as Proxy from "../harness/Proxy.js"
import * as Tables from "../harness/Tables.js"
import * as Topics from "../harness/Topics.js"
import type * as World from "../harness/World.js"

/** The services of this process with these settings, as `npm start` runs them when `isLocal`. Ends when they are ready. */
export const served = Effect.fnUntraced(function*(
  parts: Parameters<typeof serve>[0],
  env: World.World["env"],
  isLocal: boolean
) {
  const [http, grpc] = [yield* freePort, yield* freePort]
  const settings = { ...env, HTTP_ADDR: `127.0.0.1:${http}`, GRPC_ADDR: `127.0.0.1:${grpc}` }
  yield* serve(parts, { isLocal }).pipe(
    Effect.withConfigProvider(ConfigProvider.fromMap(new Map(Object.entries(settings)))),
    Logger.withMinimumLogLevel(LogLevel.Fatal),
    Effect.provide(NodeContext.layer),
    Effect.forkScoped
  )
  const base = `http://127.0.0.1:${http}`
  yield* Effect.promise(() => fetch(`${base}/readyz`)).pipe(
    Effect.filterOrDieMessage(({ status }) => status === 200, "not ready"),
    eventually("90 seconds")
  )
  return base
})

/** A dead event of a payment of its own. */
const dead = (tables: Tables.Tables, orderId: number, paymentTopic: string) =>
  tables.query(
    `WITH made AS (INSERT INTO payment (order_id, status) VALUES ($1, 'CREATED'))
     INSERT INTO event (topic, payload, status, attempts, last_error, order_id)
     VALUES ($2, $3, 'DEAD', 5, 'MESSAGE_TOO_LARGE: the record is larger than the topic allows', $1)`,
    [orderId, paymentTopic, `{"idempotent_key":"${randomUUID()}","order_id":${orderId},"status":"CREATED"}`]
  )

export const hostile = `<img src=x onerror="window.pwned=1"><script>window.pwned=2</script>`

/** The services of the local stack with all that the pages can show. Redis and the pages are behind proxies. */
export const make = Effect.fnUntraced(function*(world: World.World) {
  const redis = yield* Proxy.make(world.redisUrl)
  const topics = yield* Topics.make(world.kafkaBrokers)
  yield* topics.create(world.inventory, world.dlq, world.payment)
  const server = yield* served([], { ...world.env, REDIS_URL: redis.url }, true)
  const web = yield* Proxy.make(server)
  const tables = yield* Tables.make(world.databaseUrl)
  return {
    world,
    topics,
    tables,
    redis,
    web,
    base: web.url.replace(/\/$/, ""),
    /** Dead events of these orders. */
    dead: (...orders: ReadonlyArray<number>) =>
      Effect.forEach(orders, (orderId) => dead(tables, orderId, world.payment), { discard: true }),
    /** Records whose every part is an attack, and one that names an order above 2^53. */
    attack: topics.write(
      world.inventory,
      { key: hostile, value: `{"idempotent_key":"${randomUUID()}","order_id":9007199254740993,"status":"COMPLETED"}` },
      { key: hostile, value: hostile, headers: { [hostile]: hostile } },
      { value: `{"idempotent_key":"${randomUUID()}","order_id":1,"status":${JSON.stringify(hostile)}}` },
      { value: Buffer.from([0xff, 0xfe, 0x00, 0x3c, 0x62, 0x3e]) }
    ),
    /** A record without its order: a dead letter. */
    misdirected: topics.write(world.inventory, {
      value: `{"idempotent_key":"${randomUUID()}","order":431,"status":"COMPLETED"}`
    })
  } as const
})

export type Ground = Effect.Effect.Success<ReturnType<typeof make>>
