import { Context, Duration, Effect, Layer, Option, Schema } from "effect"
import { OrderId } from "../domain/Payment.js"
import type { RedisUnavailable } from "../infra/redis/Redis.js"
import { Redis } from "../infra/redis/Redis.js"
import * as Trace from "../infra/runtime/Trace.js"

const readOrderId = Schema.decodeUnknownOption(
  Schema.String.pipe(Schema.pattern(/^[1-9]\d{0,18}$/), Schema.compose(Schema.BigInt), Schema.compose(OrderId))
)

/** MSET with a time to live. One command a batch costs this process a ninth of one command a key. */
const setAll = `
  for i, key in ipairs(KEYS) do redis.call("SET", key, ARGV[i + 1], "PX", ARGV[1]) end
`

/** An idempotency key and its order. */
export interface Seen {
  readonly idempotentKey: string
  readonly orderId: OrderId
}

/**
 * Remembers in Redis the idempotency keys of orders that have their payment.
 *
 * Only a cache: it may forget, and it may be away. It may also remember payments that the database does not have, after a
 * restore or beside another database. The unique keys in PostgreSQL decide whether a payment exists.
 */
export class Dedupe extends Context.Tag("payments/Dedupe")<Dedupe, {
  /** Returns the order of each remembered key. */
  readonly lookup: (keys: ReadonlyArray<string>) => Effect.Effect<ReadonlyMap<string, OrderId>, RedisUnavailable>
  /** Remembers keys for `ttl`. Call it after the commit, never before. */
  readonly remember: (seen: ReadonlyArray<Seen>) => Effect.Effect<void, RedisUnavailable>
}>() {
  static readonly layer = (options: { readonly ttl: Duration.DurationInput }) =>
    Layer.effect(
      Dedupe,
      Effect.gen(function*() {
        const redis = yield* Redis
        const ttlMillis = Math.ceil(Duration.toMillis(options.ttl))
        // Orders and Products use the same Redis, with bare keys
        const name = (key: string) => `payments:inventory:${key}`

        const lookup = Effect.fnUntraced(function*(keys: ReadonlyArray<string>) {
          const found = new Map<string, OrderId>()
          if (keys.length === 0) return found
          const orders = yield* redis.send((redis) => redis.mget(keys.map(name)))
          orders.forEach((order, i) => {
            if (order === null) return
            // an unreadable value counts as forgotten
            Option.map(readOrderId(order), (orderId) => found.set(keys[i]!, orderId))
          })
          return found
        }, Trace.span("Dedupe.lookup"))

        const remember = Effect.fnUntraced(function*(seen: ReadonlyArray<Seen>) {
          if (seen.length === 0) return
          const keys = seen.map((_) => name(_.idempotentKey))
          const orders = seen.map((_) => String(_.orderId))
          yield* redis.send((redis) => redis.eval(setAll, keys.length, ...keys, ttlMillis, ...orders))
        }, Trace.span("Dedupe.remember"))

        // two keys of different slots, which a node of a cluster refuses
        yield* redis.judgeBy((redis) =>
          Promise.all([redis.mget(name("probe"), name("probe-2")), redis.eval(setAll, 1, name("probe"), 1_000, "")])
        )

        return { lookup, remember }
      })
    )
}
