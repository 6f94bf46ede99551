import { Context, Duration, Effect, Layer, Option, Schema } from "effect"
import { OrderId } from "../domain/Payment.js"
import type { RedisUnavailable } from "../infra/Redis.js"
import { Redis } from "../infra/Redis.js"

const readOrderId = Schema.decodeUnknownOption(
  Schema.String.pipe(Schema.pattern(/^[1-9]\d{0,18}$/), Schema.compose(Schema.BigInt), Schema.compose(OrderId))
)

/** An idempotency key, and the order that it belongs to. */
export interface Seen {
  readonly idempotentKey: string
  readonly orderId: OrderId
}

/**
 * Remembers the idempotency keys of orders that have their payment.
 *
 * A shortcut only: it may forget, and it may be away. What it does remember is true, because it is told after the
 * commit; whether a payment exists is decided by the unique keys in PostgreSQL.
 */
export class Dedupe extends Context.Tag("payments/Dedupe")<Dedupe, {
  /** The order of each key that is remembered. */
  readonly lookup: (keys: ReadonlyArray<string>) => Effect.Effect<ReadonlyMap<string, OrderId>, RedisUnavailable>
  /** Call it after the commit, never before. */
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

        const lookup = Effect.fn("Dedupe.lookup")(function*(keys: ReadonlyArray<string>) {
          const found = new Map<string, OrderId>()
          if (keys.length === 0) return found
          const [orders] = yield* redis.pipeline((pipeline) => pipeline.mget(...keys.map(name)))
          ;(orders as ReadonlyArray<string | null>).forEach((order, i) => {
            // what is not ours to read is as good as forgotten
            Option.map(readOrderId(order), (orderId) => found.set(keys[i]!, orderId))
          })
          return found
        })

        const remember = Effect.fn("Dedupe.remember")(function*(seen: ReadonlyArray<Seen>) {
          if (seen.length === 0) return
          yield* redis.pipeline((pipeline) => {
            for (const { idempotentKey, orderId } of seen) {
              pipeline.set(name(idempotentKey), String(orderId), "PX", ttlMillis)
            }
            return pipeline
          })
        })

        return { lookup, remember }
      })
    )
}
