import { Clock, Context, Duration, Effect, Layer, Redacted, Ref, Runtime, Schema } from "effect"
import { Redis as Client } from "ioredis"

/** Redis did not answer, or not in time. */
export class RedisUnavailable extends Schema.TaggedError<RedisUnavailable>()("RedisUnavailable", {
  cause: Schema.Defect
}) {
  override get message() {
    return "redis is not available"
  }
}

export interface RedisOptions {
  readonly url: Redacted.Redacted
  /** Told when Redis comes and goes: undefined when it answers, else why it does not. */
  readonly onChange?: (problem: string | undefined) => Effect.Effect<void>
}

/** A command that takes longer is given up. */
const commandTimeout = Duration.millis(250)
/** After a failure nobody asks for so long: a Redis that hangs costs one command's time now and then, not each time. */
const rest = Duration.seconds(1)

const problemOf = (error: unknown) => error instanceof Error ? error.message : String(error)

/** One connection for the life of the layer, made in the background: building it does not need Redis. */
export class Redis extends Context.Tag("payments/Redis")<Redis, {
  /** Sends a command. Fails at once while Redis is known to be away. */
  readonly send: <A>(command: (redis: Client) => Promise<A>) => Effect.Effect<A, RedisUnavailable>
}>() {
  static readonly layer = (options: RedisOptions): Layer.Layer<Redis> =>
    Layer.scoped(
      Redis,
      Effect.gen(function*() {
        const runSync = Runtime.runSync(yield* Effect.runtime<never>())
        const restUntil = yield* Ref.make(0)
        const answering = yield* Ref.make<boolean | undefined>(undefined)

        const report = Effect.fnUntraced(function*(problem: string | undefined) {
          const answers = problem === undefined
          if ((yield* Ref.getAndSet(answering, answers)) === answers) return
          yield* answers ? Effect.logInfo("redis answers") : Effect.logWarning(`redis is away: ${problem}`)
          if (options.onChange !== undefined) yield* options.onChange(problem)
        })

        const redis = yield* Effect.acquireRelease(
          Effect.sync(() =>
            new Client(Redacted.value(options.url), {
              enableOfflineQueue: false,
              maxRetriesPerRequest: 0,
              connectTimeout: 2_000,
              // a host that goes without a word, also while it greets: TCP would wait a quarter of an hour
              socketTimeout: 2_000,
              retryStrategy: (times) => Math.min(times * 100, 2_000)
            })
              .on("error", (error) => runSync(report(problemOf(error))))
              .on("ready", () => runSync(Effect.zipRight(Ref.set(restUntil, 0), report(undefined))))
          ),
          (redis) => Effect.sync(() => redis.disconnect())
        )

        const send = Effect.fnUntraced(
          function*<A>(command: (redis: Client) => Promise<A>) {
            const now = yield* Clock.currentTimeMillis
            if (now < (yield* Ref.get(restUntil))) return yield* new RedisUnavailable({ cause: "resting" })
            const reply = yield* Effect.tryPromise({
              try: () => command(redis),
              catch: (cause) => new RedisUnavailable({ cause })
            }).pipe(
              Effect.timeoutFail({
                duration: commandTimeout,
                onTimeout: () => new RedisUnavailable({ cause: new Error("no answer in time") })
              }),
              // the other end may have gone without a word: the next command has a connection of its own
              Effect.tapError(({ cause }) =>
                Effect.sync(() =>
                  cause instanceof Error && cause.message === "no answer in time" && redis.disconnect(true)
                )
              )
            )
            yield* report(undefined)
            return reply
          },
          Effect.tapError(Effect.fnUntraced(function*(error) {
            if (error.cause === "resting") return
            const now = yield* Clock.currentTimeMillis
            yield* Ref.set(restUntil, now + Duration.toMillis(rest))
            yield* report(problemOf(error.cause))
          }))
        )

        return { send }
      })
    )
}
