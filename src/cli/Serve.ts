import type { Duration } from "effect"
import { Effect, Fiber, Layer, Schema } from "effect"
import { readSettings } from "../Config.js"
import * as DatabaseClock from "../infra/postgres/DatabaseClock.js"
import * as Telemetry from "../ops/Telemetry.js"
import { Sequences } from "../payments/Sequences.js"
import * as Drills from "./Drills.js"
import * as Prepare from "./Prepare.js"
import * as Services from "./Services.js"

/** The parts were asked to stop, and some of them have not. What they held is freed when leases and sessions run out. */
export class StopTookTooLong extends Schema.TaggedError<StopTookTooLong>()("StopTookTooLong", {
  limit: Schema.DurationFromSelf
}) {
  override get message() {
    return "the services did not stop within SHUTDOWN_TIMEOUT"
  }
}

/** On interruption waits for the effect to end, but no longer than `limit`; then the interruption is an error. */
const stopWithin = (limit: Duration.Duration) => <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.uninterruptibleMask((restore) =>
    // a daemon: nobody waits for it who does not say so
    Effect.flatMap(Effect.forkDaemon(restore(effect)), (fiber) =>
      restore(Fiber.join(fiber)).pipe(
        Effect.onInterrupt(() =>
          Effect.logInfo("stopping").pipe(
            Effect.zipRight(Fiber.interrupt(fiber)),
            Effect.interruptible,
            Effect.timeoutFail({ duration: limit, onTimeout: () => new StopTookTooLong({ limit }) }),
            // here and not further up: a fiber that is interrupted passes no other handler
            Effect.tapError((error) => Effect.logFatal(error.message)),
            Effect.orDie
          )
        )
      ))
  )

/** The parts that run when these are named: all when none is. */
export const partsOf = (named: ReadonlyArray<Services.Part>) =>
  named.length === 0 ? Services.parts : Services.parts.filter((part) => named.includes(part))

/**
 * Runs the parts (none named: all) until interrupted; the first that gives up stops the others.
 *
 * Nothing has to be there at the start: operations HTTP answers at once and says what is waited for.
 */
export const serve = Effect.fn(function*(named: ReadonlyArray<Services.Part>) {
  const running = partsOf(named)
  const config = yield* readSettings(...Services.settingsOf(running))
  const kafka = Services.kafkaOptions(config)
  const topics = Services.topicsOf(config, running)
  const prepare = Effect.all([
    Effect.zipRight(
      Prepare.database({ migrate: config.migrateOnStart, rights: Services.rightsOf(running) }),
      Effect.flatMap(Sequences, (sequences) => sequences.prepare)
    ),
    Prepare.topics(kafka, { topics, create: config.kafkaCreateTopics })
  ], { concurrency: "unbounded", discard: true })

  const work = Effect.all([
    Services.http(config),
    prepare.pipe(
      // before the first record is written; while the database is away there is none to write
      Effect.zipRight(Effect.ignore(DatabaseClock.measure)),
      Effect.zipRight(Effect.all([
        Services.clock,
        ...running.map((part) => Services.run(part, config)),
        ...(config.kafkaCreateTopics && topics.length > 0 ? [Prepare.keepTopics(kafka, topics)] : [])
      ], { concurrency: "unbounded", discard: true }))
    )
  ], { concurrency: "unbounded", discard: true })
  const telemetry = Telemetry.layer({
    endpoint: config.otelEndpoint,
    headers: config.otelHeaders,
    serviceName: config.otelServiceName,
    attributes: config.otelResourceAttributes
  })
  return yield* work.pipe(
    Effect.provide(Layer.provideMerge(Services.layer(config, running), Layer.merge(telemetry, Drills.layer))),
    stopWithin(config.shutdownTimeout)
  )
})
