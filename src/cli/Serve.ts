import { Duration, Effect, Fiber, Layer, Option, Schema } from "effect"
import { readSettings } from "../Config.js"
import * as Doctor from "../doctor/Doctor.js"
import * as DatabaseClock from "../infra/postgres/DatabaseClock.js"
import { Health } from "../infra/runtime/Health.js"
import { isLoopback } from "../infra/runtime/Loopback.js"
import * as CertificateExpiry from "../infra/tls/CertificateExpiry.js"
import type { Role } from "../ops/Parts.js"
import { roles, workers } from "../ops/Parts.js"
import * as Telemetry from "../ops/Telemetry.js"
import { Sequences } from "../payments/Sequences.js"
import * as Admin from "./Admin.js"
import { beginMetrics } from "./BeginMetrics.js"
import * as Drills from "./Drills.js"
import * as Listening from "./Listening.js"
import * as Prepare from "./Prepare.js"
import { rightsOf } from "./Rights.js"
import * as Servers from "./Servers.js"
import * as Services from "./Services.js"
import { warnOfUnknownSettings } from "./UnknownSettings.js"

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
            Effect.zipRight(Effect.timed(Fiber.interrupt(fiber))),
            Effect.flatMap(([time]) =>
              Effect.logInfo(`stopped, after ${(Duration.toMillis(time) / 1_000).toFixed(1)} s`)
            ),
            Effect.interruptible,
            Effect.timeoutFail({ duration: limit, onTimeout: () => new StopTookTooLong({ limit }) }),
            // logged here: an interrupted fiber runs no error handler further up
            Effect.tapError((error) => Effect.logFatal(error.message)),
            Effect.orDie
          )
        )
      ))
  )

/** The roles to run: the named ones, or all that do the work of the service when none is named. */
export const rolesOf = (named: ReadonlyArray<Role>): ReadonlyArray<Role> =>
  named.length === 0 ? workers : roles.filter((role) => named.includes(role))

export interface ServeOptions {
  /** The servers of `npm start`: the console is open to this machine without a token, and may write inventory records. */
  readonly isLocal?: boolean
}

/**
 * Runs the roles (none named: all but the console alone) until interrupted. A role that fails for good stops the others.
 *
 * No dependency has to run at the start: operations HTTP answers at once and names the missing ones. The gRPC server waits for the
 * database alone: paying goes on without brokers.
 */
export const serve = Effect.fn(function*(named: ReadonlyArray<Role>, { isLocal = false }: ServeOptions = {}) {
  const running = rolesOf(named)
  const config = yield* readSettings(...Services.settingsOf(running))
  yield* Listening.check(config, running)
  yield* warnOfUnknownSettings
  yield* beginMetrics(running)
  const doctor = Services.doctorOptions(config, running)
  const console: Admin.ConsoleOptions = {
    tls: Option.isSome(config.httpTlsCert),
    local: isLocal && isLoopback(config.httpAddr.host),
    needed: running.includes("console"),
    doctor: Services.doctorOptions(config, running.includes("console") ? workers : running)
  }

  const work = Effect.gen(function*() {
    const health = yield* Health
    const sequences = yield* Sequences
    const database = yield* Effect.cached(
      Prepare.database({
        migrate: config.migrateOnStart,
        rights: rightsOf(config, running),
        part: health.part("migrations")
      }).pipe(
        Effect.zipRight(sequences.prepare),
        // before the first record is written; while the database is away there is no record to write
        Effect.zipRight(Effect.ignore(DatabaseClock.measure))
      )
    )
    const ofTopics = yield* Effect.forEach(
      Object.entries(Services.topicsOf(config, running)),
      ([name, { role, topics }]) => {
        const kafka = Services.kafkaOptions(config)
        const options = {
          topics,
          create: config.kafkaCreateTopics,
          part: health.part(name),
          ...(role === "consumer" ? { follower: health.part("consumer-lag") } : {})
        }
        return Effect.map(Effect.cached(Prepare.topics(kafka, options)), (prepared) => ({
          role,
          prepared,
          run: Effect.all([database, prepared], { concurrency: "unbounded" }).pipe(
            Effect.zipRight(Effect.all([Services.run(role, config), Prepare.keepTopics(kafka, options)], {
              concurrency: "unbounded",
              discard: true
            }))
          )
        }))
      }
    )
    // a process with the consumer may create it
    const inventoryTopic = ofTopics.find(({ role }) => role === "consumer")?.prepared ?? Effect.void
    yield* Effect.all([
      health.watch,
      CertificateExpiry.watch(doctor.certificates),
      Effect.scoped(Effect.flatMap(Admin.make(console), (app) => Servers.http(config, app))),
      Effect.zipRight(database, Services.clock),
      ...ofTopics.map(({ run }) => run),
      ...(ofTopics.length === 0 ? [] : [Effect.zipRight(inventoryTopic, Services.lag(config))]),
      // after the start: its requests would delay the first records
      Effect.zipRight(database, Effect.delay(Doctor.warn(doctor), "10 seconds")),
      ...(running.includes("grpc") ? [Effect.zipRight(database, Services.run("grpc", config))] : [])
    ], { concurrency: "unbounded", discard: true })
  })
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
