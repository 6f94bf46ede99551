import type { Duration } from "effect"
import { Effect, Fiber, Layer, Schema } from "effect"
import { readSettings } from "../Config.js"
import * as Doctor from "../doctor/Doctor.js"
import * as DatabaseClock from "../infra/postgres/DatabaseClock.js"
import * as Telemetry from "../ops/Telemetry.js"
import { Sequences } from "../payments/Sequences.js"
import * as Admin from "./Admin.js"
import * as Drills from "./Drills.js"
import * as Prepare from "./Prepare.js"
import * as Services from "./Services.js"

/** Some services did not stop in time. Their leases and sessions expire by themselves. */
export class StopTookTooLong extends Schema.TaggedError<StopTookTooLong>()("StopTookTooLong", {
  limit: Schema.DurationFromSelf
}) {
  override get message() {
    return "the services did not stop within SHUTDOWN_TIMEOUT"
  }
}

/** On interruption waits up to `limit` for the effect to end; after that it dies with `StopTookTooLong`. */
const stopWithin = (limit: Duration.Duration) => <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.uninterruptibleMask((restore) =>
    // daemon fiber: interrupting the caller does not wait for it
    Effect.flatMap(Effect.forkDaemon(restore(effect)), (fiber) =>
      restore(Fiber.join(fiber)).pipe(
        Effect.onInterrupt(() =>
          Effect.logInfo("stopping").pipe(
            Effect.zipRight(Fiber.interrupt(fiber)),
            Effect.interruptible,
            Effect.timeoutFail({ duration: limit, onTimeout: () => new StopTookTooLong({ limit }) }),
            // logged here: an interrupted fiber runs no error handler further up
            Effect.tapError((error) => Effect.logFatal(error.message)),
            Effect.orDie
          )
        )
      ))
  )

/** The parts to run: the named ones, or all when none is named. */
export const partsOf = (named: ReadonlyArray<Services.Part>) =>
  named.length === 0 ? Services.parts : Services.parts.filter((part) => named.includes(part))

/**
 * Runs the parts (none named: all) until interrupted. A part that fails for good stops the others.
 *
 * No dependency has to run at the start: operations HTTP answers at once and names the missing ones.
 */
export const serve = Effect.fn(function*(named: ReadonlyArray<Services.Part>) {
  const running = partsOf(named)
  const config = yield* readSettings(...Services.settingsOf(running))
  const kafka = Services.kafkaOptions(config)
  const topics = Services.topicsOf(config, running)
  const prepare = Effect.all([
    Effect.zipRight(
      Prepare.database({ migrate: config.migrateOnStart, rights: Services.rightsOf(config, running) }),
      Effect.flatMap(Sequences, (sequences) => sequences.prepare)
    ),
    Prepare.topics(kafka, { topics, create: config.kafkaCreateTopics })
  ], { concurrency: "unbounded", discard: true })

  const work = Effect.all([
    Effect.scoped(Effect.flatMap(Admin.app, (api) => Services.http(config, api))),
    prepare.pipe(
      // before the first record is written; while the database is away there is no record to write
      Effect.zipRight(Effect.ignore(DatabaseClock.measure)),
      Effect.zipRight(Effect.all([
        Services.clock,
        ...running.map((part) => Services.run(part, config)),
        // after the start: its requests would delay the first records
        Effect.delay(Doctor.warn(Services.doctorOptions(config, running)), "10 seconds"),
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
