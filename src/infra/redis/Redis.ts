import { Context, Duration, Effect, Layer, Metric, Runtime, Schema } from "effect"
import type { Redis as Client } from "ioredis"
import * as Signal from "../runtime/Signal.js"
import type { RedisServer } from "./RedisAccess.js"
import { place } from "./RedisAccess.js"
import * as RedisConnection from "./RedisConnection.js"
import type { Problem } from "./RedisProblem.js"
import { problemOf } from "./RedisProblem.js"

/** A Redis command failed or timed out. */
export class RedisUnavailable extends Schema.TaggedError<RedisUnavailable>()("RedisUnavailable", {
  cause: Schema.Defect
}) {
  override get message() {
    return "redis is not available"
  }
}

export interface RedisOptions extends RedisServer {
  /** Called when Redis becomes unavailable, with the reason, and with undefined when it is available again. */
  readonly onChange?: (problem: string | undefined) => Effect.Effect<void>
}

type Command<A> = (redis: Client) => Promise<A>

/** Longest duration of a command. */
const commandTimeout = Duration.millis(250)
/**
 * Milliseconds between two probes of an unavailable Redis: shortest and longest pause. The pause doubles when Redis fails
 * again within `relapse` after its return: a server with little memory left accepts a small write and not a large one.
 */
const [shortest, longest, relapse] = [1_000, 16_000, 5_000]

const available = Metric.gauge("payments_redis_available", {
  description: "1 while Redis is available, else 0"
})

/** One connection for the life of the layer, opened in the background: building the layer does not need Redis. */
export class Redis extends Context.Tag("payments/Redis")<Redis, {
  /** Sends a command. Fails at once while Redis is known to be unavailable. */
  readonly send: <A>(command: Command<A>) => Effect.Effect<A, RedisUnavailable>
  /**
   * Sets the probe of availability: commands that read and write like those of `send`. The probe runs on each new connection,
   * and in the background while Redis is unavailable. PING would not do: a replica and a server without memory answer it too.
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
        /** Reason of the outage; undefined when Redis is available, null before the first probe. */
        let problem: Problem | undefined | null = null
        const explained = (error: unknown) => problemOf(error, place(options))
        let probe: Command<unknown> = (redis) => redis.ping()
        /** Notified when a probe is due. */
        const due = Signal.make()
        let pause = shortest
        let backAt = 0

        const back = Effect.gen(function*() {
          if (problem === undefined) return
          problem = undefined
          backAt = now()
          available.unsafeUpdate(1, [])
          if (options.onChange !== undefined) yield* options.onChange(undefined)
        })

        /** Reports the begin of an outage, and each change of the server's error code during it. */
        const away = Effect.fnUntraced(function*(next: Problem) {
          // a lost connection says less than the server's earlier error, which is often the cause
          if (problem != null && (next.code === problem.code || next.code === "")) return
          if (problem === undefined) pause = now() - backAt < relapse ? Math.min(2 * pause, longest) : shortest
          problem = next
          available.unsafeUpdate(0, [])
          due.notify()
          if (options.onChange !== undefined) yield* options.onChange(next.reason)
        })

        const unused = yield* Effect.once(
          Effect.logWarning("redis requires no password: the password of the settings is not used")
        )

        const redis = yield* Effect.acquireRelease(
          Effect.sync(() => {
            const client = RedisConnection.make(options, {
              enableOfflineQueue: false,
              maxRetriesPerRequest: 0,
              connectTimeout: 2_000,
              disableClientInfo: true,
              // detects a vanished host, also during the handshake; TCP alone would take a quarter of an hour
              socketTimeout: 2_000,
              retryStrategy: (times) => Math.min(times * 100, 2_000)
            }, () => runSync(unused))
            client.on("error", (error) => runSync(away(explained(error)))).on("ready", due.notify)
            // the `error` event reports a failure, and ioredis tries again
            client.connect().catch(() => {})
            return client
          }),
          (redis) => Effect.sync(() => redis.disconnect())
        )

        const failed = (error: unknown) =>
          Effect.suspend(() => {
            const found = explained(error)
            if (found.elsewhere) redis.disconnect(true)
            // not the error of ioredis, which contains the command and its arguments
            return Effect.zipRight(away(found), new RedisUnavailable({ cause: new Error(found.reason) }))
          })

        // a timer, because `Effect.timeout` takes two more fibers a command
        const ask = <A>(command: Command<A>) =>
          Effect.async<A, RedisUnavailable>((resume) => {
            const answer = command(redis)
            const timer = setTimeout(() => {
              // the host may have vanished: the next command gets a new connection
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
            // the events of the first connection report its result
            if (problem === null) return new RedisUnavailable({ cause: new Error("not connected yet") })
            return failed(new Error("the connection was closed"))
          })

        const probing: Effect.Effect<void> = Effect.suspend(() =>
          redis.status === "ready"
            ? Effect.matchEffect(ask((redis) => probe(redis)), {
              onFailure: () => Effect.zipRight(Effect.sleep(pause), probing),
              onSuccess: () => back
            })
            : Effect.zipRight(Effect.raceFirst(Effect.sleep(pause), due.wait), probing)
        )
        yield* due.wait.pipe(
          Effect.zipRight(probing),
          // a bug in `onChange` or in the probe ends this probe, and no later one
          Effect.catchAllDefect((bug) => Effect.logError("a bug ended the probe of redis", bug)),
          Effect.forever,
          Effect.forkScoped
        )

        const judgeBy = (commands: Command<unknown>) => Effect.sync(() => void (probe = commands))

        return { send, judgeBy }
      })
    )
}
