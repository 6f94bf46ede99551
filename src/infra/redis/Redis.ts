import { Context, Duration, Effect, Layer, Metric, Redacted, Runtime, Schema } from "effect"
import type { Redis as Client } from "ioredis"
import * as Signal from "../runtime/Signal.js"
import type { Problem } from "./RedisProblem.js"
import { problemOf } from "./RedisProblem.js"
import * as RedisQuiet from "./RedisQuiet.js"

/** Redis did not do what it was asked for, or not in time. */
export class RedisUnavailable extends Schema.TaggedError<RedisUnavailable>()("RedisUnavailable", {
  cause: Schema.Defect
}) {
  override get message() {
    return "redis is not available"
  }
}

export interface RedisOptions {
  readonly url: Redacted.Redacted
  /** Told when Redis comes and goes: undefined when it does all that is asked of it, else why it does not. */
  readonly onChange?: (problem: string | undefined) => Effect.Effect<void>
}

type Command<A> = (redis: Client) => Promise<A>

/** A command that takes longer is given up. */
const commandTimeout = Duration.millis(250)
/**
 * Milliseconds between two attempts to find out whether Redis is back. They double when it is away again so soon after it
 * was back: a server on the edge of its memory takes a small write, and not the next large one.
 */
const [shortest, longest, relapse] = [1_000, 16_000, 5_000]

const available = Metric.gauge("payments_redis_available", {
  description: "1 while Redis does what it is asked for, else 0"
})

/** One connection for the life of the layer, made in the background: building it does not need Redis. */
export class Redis extends Context.Tag("payments/Redis")<Redis, {
  /** Sends a command. Fails at once while Redis is known not to do all that is asked of it. */
  readonly send: <A>(command: Command<A>) => Effect.Effect<A, RedisUnavailable>
  /**
   * Sets what Redis is judged by: commands that read and write as those of `send` do. They are tried on each new
   * connection, and in the background while Redis is away; it is back when they succeed. An answer to PING says too
   * little: a replica, or a server without memory, gives it too.
   */
  readonly judgeBy: (probe: Command<unknown>) => Effect.Effect<void>
}>() {
  static readonly layer = (options: RedisOptions): Layer.Layer<Redis> =>
    Layer.scoped(
      Redis,
      Effect.gen(function*() {
        const runSync = Runtime.runSync(yield* Effect.runtime<never>())
        const clock = yield* Effect.clock
        const now = () => clock.unsafeCurrentTimeMillis()
        /** Why Redis is away; null when nobody knows yet whether it is. */
        let problem: Problem | undefined | null = null
        /** What was said of this outage. */
        const told = new Set<string>()
        let probe: Command<unknown> = (redis) => redis.ping()
        /** Rings when it is to be found out whether Redis is there. */
        const unknown = Signal.make()
        let pause = shortest
        let backAt = 0

        const back = Effect.gen(function*() {
          if (problem === undefined) return
          problem = undefined
          backAt = now()
          told.clear()
          available.unsafeUpdate(1, [])
          yield* Effect.logInfo("redis answers")
          if (options.onChange !== undefined) yield* options.onChange(undefined)
        })

        /** One line for each outage, and one for each further fault that the server itself tells of in the course of it. */
        const away = Effect.fnUntraced(function*(next: Problem) {
          // that a connection is gone says less than what the server said before, which is often why
          if (problem != null && (next.code === problem.code || next.code === "")) return
          if (problem === undefined) pause = now() - backAt < relapse ? Math.min(2 * pause, longest) : shortest
          problem = next
          available.unsafeUpdate(0, [])
          unknown.notify()
          if (!told.has(next.code)) yield* Effect.logWarning(`redis is away: ${next.reason}`)
          told.add(next.code)
          if (options.onChange !== undefined) yield* options.onChange(next.reason)
        })

        const unused = yield* Effect.once(
          Effect.logWarning("redis takes no password: the one in REDIS_URL is not used")
        )

        const redis = yield* Effect.acquireRelease(
          Effect.sync(() => {
            const client = RedisQuiet.make(Redacted.value(options.url), {
              enableOfflineQueue: false,
              maxRetriesPerRequest: 0,
              connectTimeout: 2_000,
              disableClientInfo: true,
              // a host that goes without a word, also while it greets: TCP would wait a quarter of an hour
              socketTimeout: 2_000,
              retryStrategy: (times) => Math.min(times * 100, 2_000)
            }, () => runSync(unused))
            client.on("error", (error) => runSync(away(problemOf(error)))).on("ready", unknown.notify)
            // a failure is told by the event, and it is tried again
            client.connect().catch(() => {})
            return client
          }),
          (redis) => Effect.sync(() => redis.disconnect())
        )

        const failed = (error: unknown) =>
          Effect.suspend(() => {
            const found = problemOf(error)
            if (found.elsewhere) redis.disconnect(true)
            // not the error of ioredis: that holds the command with its arguments
            return Effect.zipRight(away(found), new RedisUnavailable({ cause: new Error(found.reason) }))
          })

        // by a timer: `Effect.timeout` takes two fibers more for each command
        const ask = <A>(command: Command<A>) =>
          Effect.async<A, RedisUnavailable>((resume) => {
            const answer = command(redis)
            const timer = setTimeout(() => {
              // the other end may have gone without a word: the next command has a connection of its own
              redis.disconnect(true)
              resume(failed(new Error("no answer in time")))
            }, Duration.toMillis(commandTimeout))
            answer.then(
              (reply) => {
                clearTimeout(timer)
                resume(Effect.succeed(reply))
              },
              (cause: unknown) => {
                clearTimeout(timer)
                resume(failed(cause))
              }
            )
          })

        const send = <A>(command: Command<A>) =>
          Effect.suspend(() => {
            if (problem != null) return new RedisUnavailable({ cause: new Error(problem.reason) })
            if (redis.status === "ready") return ask(command)
            // the first connection: what comes of it is told by its events
            if (problem === null) return new RedisUnavailable({ cause: new Error("not connected yet") })
            return failed(new Error("the connection was closed"))
          })

        const look: Effect.Effect<void> = Effect.suspend(() =>
          redis.status === "ready"
            ? Effect.matchEffect(ask((redis) => probe(redis)), {
              onFailure: () => Effect.zipRight(Effect.sleep(pause), look),
              onSuccess: () => back
            })
            : Effect.zipRight(Effect.raceFirst(Effect.sleep(pause), unknown.wait), look)
        )
        yield* unknown.wait.pipe(Effect.zipRight(look), Effect.forever, Effect.forkScoped)

        const judgeBy = (commands: Command<unknown>) => Effect.sync(() => void (probe = commands))

        return { send, judgeBy }
      })
    )
}
