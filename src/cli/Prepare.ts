import { Data, Effect, Schedule } from "effect"
import * as CrashPoint from "../drills/CrashPoint.js"
import type { KafkaOptions } from "../infra/kafka/KafkaClient.js"
import * as Kafka from "../infra/kafka/KafkaClient.js"
import * as Migrations from "../infra/postgres/Migrations.js"
import type { DatabaseUnavailable } from "../infra/postgres/Postgres.js"
import * as PostgresPooler from "../infra/postgres/PostgresPooler.js"
import * as PostgresRights from "../infra/postgres/PostgresRights.js"
import { Readiness } from "../infra/runtime/Readiness.js"
import * as Paths from "./Paths.js"

/** Our migrations, and the table that remembers them. */
export const migrations: Migrations.MigrationOptions = {
  folder: Paths.migrations,
  table: "payments_migrations",
  afterEach: CrashPoint.pass("migration-half-way")
}

/** Asked again until it is there; nobody has to start us again. */
const patience = Schedule.exponential("250 millis").pipe(Schedule.union(Schedule.spaced("2 seconds")))

/** Tells what is missing: to readiness each time, to the log when it changes. */
const waiting = (dependency: string) =>
  Effect.gen(function*() {
    const readiness = yield* Readiness
    let told = ""
    return Effect.fnUntraced(function*(reason: string) {
      yield* readiness.set(dependency, { reason })
      if (told !== reason) yield* Effect.logWarning(`waiting: ${reason}`)
      told = reason
    })
  })

/** Nobody has made it yet, and it is not for us to make it. */
class StillMissing extends Data.TaggedError("StillMissing")<{ readonly message: string }> {}

/** Nobody has to be waited for: the end of a start that cannot succeed. */
const isFinal = (error: Migrations.MigrationFailed | DatabaseUnavailable | StillMissing) =>
  error._tag === "MigrationFailed" || (error._tag === "DatabaseUnavailable" && error.refused)

/**
 * Ends when the database has our schema, and our role the rights on it: applies what is pending, or waits until somebody
 * else has.
 *
 * A database that is away or read-only is waited for. Fails with `MigrationFailed`, and with `DatabaseUnavailable` where the
 * database refuses us: waiting mends neither.
 */
export const database = Effect.fn("Prepare.database")(
  function*(options: { readonly migrate: boolean; readonly rights: PostgresRights.Rights }) {
    const readiness = yield* Readiness
    const tell = yield* waiting("migrations")
    const apply = Effect.gen(function*() {
      const applied = yield* Migrations.migrate(migrations)
      for (const [, name] of applied) yield* Effect.logInfo(`migrated: ${name}`)
    })
    const check = Effect.gen(function*() {
      const pending = yield* Migrations.pending(migrations)
      const names = pending.map(([, name]) => name).join(", ")
      if (names !== "") return yield* new StillMissing({ message: `not migrated: ${names} (payments migrate)` })
    })
    yield* PostgresPooler.check.pipe(
      Effect.zipRight(Effect.if(options.migrate, { onTrue: () => apply, onFalse: () => check })),
      Effect.zipRight(PostgresRights.check(options.rights)),
      Effect.tapError((error) => isFinal(error) ? Effect.void : tell(error.message)),
      Effect.retry({ schedule: patience, while: (error) => !isFinal(error) }),
      Effect.catchTag("StillMissing", (error) => Effect.die(error))
    )
    yield* readiness.set("migrations", "ok")
  }
)

/** Ends when all topics exist: creates those that are missing, or waits until somebody else has. */
export const topics = Effect.fn("Prepare.topics")(
  function*(
    kafka: KafkaOptions,
    options: { readonly topics: ReadonlyArray<Kafka.NewTopic>; readonly create: boolean }
  ) {
    const readiness = yield* Readiness
    const tell = yield* waiting("topics")
    yield* Effect.gen(function*() {
      if (options.topics.length === 0) return
      const missing = yield* Kafka.missingTopics(kafka, options.topics.map((_) => _.topic))
      if (missing.length === 0) return
      if (!options.create) return yield* new StillMissing({ message: `no such topic: ${missing.join(", ")}` })
      yield* Kafka.createTopics(kafka, options.topics.filter((_) => missing.includes(_.topic)))
      yield* Effect.logInfo(`topics created: ${missing.join(", ")}`)
    }).pipe(
      Effect.tapError((error) => tell(error.message)),
      Effect.retry(patience),
      Effect.orDie
    )
    yield* readiness.set("topics", "ok")
  }
)

/** How often it is looked whether all topics are still there: one request, and a topic is back within seconds. */
const lookout = "5 seconds"

/** Creates topics that somebody deletes while the services run, again and again. For whoever may create topics. */
export const keepTopics = (kafka: KafkaOptions, wanted: ReadonlyArray<Kafka.NewTopic>): Effect.Effect<never> =>
  Effect.gen(function*() {
    const missing = yield* Kafka.missingTopics(kafka, wanted.map((_) => _.topic))
    if (missing.length === 0) return
    yield* Kafka.createTopics(kafka, wanted.filter((_) => missing.includes(_.topic)))
    yield* Effect.logWarning(`topics were deleted, and are created again: ${missing.join(", ")}`)
  }).pipe(
    // an outage is told by those who want to read and write
    Effect.catchAll((error) => Effect.logDebug("it cannot be seen whether all topics are there", error)),
    Effect.delay(lookout),
    Effect.forever
  )
