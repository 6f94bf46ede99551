import { Context, Duration, Effect, Layer, Redacted, Runtime, Schema } from "effect"
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
        const clock = yield* Effect.clock
        let restUntil = 0
        let answering: boolean | undefined

        const report = Effect.fnUntraced(function*(problem: string | undefined) {
          const answers = problem === undefined
          if (answering === answers) return
          answering = answers
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
              .on("ready", () => {
                restUntil = 0
                runSync(report(undefined))
              })
          ),
          (redis) => Effect.sync(() => redis.disconnect())
        )

        const failed = (cause: unknown) =>
          Effect.suspend(() => {
            restUntil = clock.unsafeCurrentTimeMillis() + Duration.toMillis(rest)
            return Effect.zipRight(report(problemOf(cause)), new RedisUnavailable({ cause }))
          })

        // by a timer: `Effect.timeout` takes two fibers more for each command
        const send = <A>(command: (redis: Client) => Promise<A>) =>
          Effect.async<A, RedisUnavailable>((resume) => {
            if (clock.unsafeCurrentTimeMillis() < restUntil) {
              return resume(new RedisUnavailable({ cause: "resting" }))
            }
            const answer = command(redis)
            const timer = setTimeout(() => {
              // the other end may have gone without a word: the next command has a connection of its own
              redis.disconnect(true)
              resume(failed(new Error("no answer in time")))
            }, Duration.toMillis(commandTimeout))
            answer.then(
              (reply) => {
                clearTimeout(timer)
                resume(answering === true ? Effect.succeed(reply) : Effect.as(report(undefined), reply))
              },
              (cause: unknown) => {
                clearTimeout(timer)
                resume(failed(cause))
              }
            )
          })

        return { send }
      })
    )
}
