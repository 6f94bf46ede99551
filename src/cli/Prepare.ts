import { Data, Effect, Schedule, Schema } from "effect"
import * as CrashPoint from "../drills/CrashPoint.js"
import type { KafkaOptions } from "../infra/kafka/KafkaClient.js"
import * as Kafka from "../infra/kafka/KafkaClient.js"
import * as Migrations from "../infra/postgres/Migrations.js"
import type { DatabaseUnavailable } from "../infra/postgres/Postgres.js"
import * as PostgresPooler from "../infra/postgres/PostgresPooler.js"
import * as PostgresRights from "../infra/postgres/PostgresRights.js"
import { Readiness } from "../infra/runtime/Readiness.js"
import * as Paths from "./Paths.js"

/** The SQL migrations, and the table of applied ones. */
export const migrations: Migrations.MigrationOptions = {
  folder: Paths.migrations,
  table: "payments_migrations",
  afterEach: CrashPoint.pass("migration-half-way")
}

/** The database has pending migrations, which this command does not apply. */
export class NotMigrated extends Schema.TaggedError<NotMigrated>()("NotMigrated", { names: Schema.String }) {
  override get message() {
    return `the database is not migrated (run payments migrate): ${this.names}`
  }
}

/** Succeeds when no migration is pending. Fails with `NotMigrated` or `DatabaseUnavailable`. */
export const migrated = Effect.suspend(() =>
  Effect.flatMap(
    Migrations.pending(migrations),
    (pending) =>
      pending.length === 0
        ? Effect.void
        : Effect.fail(new NotMigrated({ names: pending.map(([, name]) => name).join(", ") }))
  )
)

/** Pauses between attempts: from 250 ms, doubled up to 2 s, without end. */
const retries = Schedule.exponential("250 millis").pipe(Schedule.union(Schedule.spaced("2 seconds")))

/** Reports a missing dependency: to readiness each time, to the log when the reason changes. */
const waiting = (dependency: string) =>
  Effect.gen(function*() {
    const readiness = yield* Readiness
    let logged = ""
    return Effect.fnUntraced(function*(reason: string) {
      yield* readiness.set(dependency, { reason })
      if (logged !== reason) yield* Effect.logWarning(`waiting: ${reason}`)
      logged = reason
    })
  })

/** A migration or topic is missing, and the settings leave it to another process. */
class StillMissing extends Data.TaggedError("StillMissing")<{ readonly message: string }> {}

/** True for an error that waiting does not fix: the start fails. */
const isFinal = (error: Migrations.MigrationFailed | DatabaseUnavailable | StillMissing) =>
  error._tag === "MigrationFailed" || (error._tag === "DatabaseUnavailable" && error.refused)

/**
 * Ends when the database has the schema and the role has its permissions. Applies pending migrations, or with
 * `migrate: false` waits until another process has applied them.
 *
 * Waits for a database that is away or read-only. Fails with `MigrationFailed`, and with `DatabaseUnavailable` when the
 * database refuses the role, because waiting fixes neither.
 */
export const database = Effect.fn("Prepare.database")(
  function*(options: { readonly migrate: boolean; readonly rights: PostgresRights.Rights }) {
    const readiness = yield* Readiness
    const report = yield* waiting("migrations")
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
      Effect.tapError((error) => isFinal(error) ? Effect.void : report(error.message)),
      Effect.retry({ schedule: retries, while: (error) => !isFinal(error) }),
      Effect.catchTag("StillMissing", (error) => Effect.die(error))
    )
    yield* readiness.set("migrations", "ok")
  }
)

/** Ends when all topics exist. Creates missing ones, or with `create: false` waits until another process has created them. */
export const topics = Effect.fn("Prepare.topics")(
  function*(
    kafka: KafkaOptions,
    options: { readonly topics: ReadonlyArray<Kafka.NewTopic>; readonly create: boolean }
  ) {
    const readiness = yield* Readiness
    const report = yield* waiting("topics")
    yield* Effect.gen(function*() {
      if (options.topics.length === 0) return
      const missing = yield* Kafka.missingTopics(kafka, options.topics.map((_) => _.topic))
      if (missing.length === 0) return
      if (!options.create) return yield* new StillMissing({ message: `no such topic: ${missing.join(", ")}` })
      yield* Kafka.createTopics(kafka, options.topics.filter((_) => missing.includes(_.topic)))
      yield* Effect.logInfo(`topics created: ${missing.join(", ")}`)
    }).pipe(
      Effect.tapError((error) => report(error.message)),
      Effect.retry(retries),
      Effect.orDie
    )
    yield* readiness.set("topics", "ok")
  }
)

/** How often `keepTopics` checks all topics, with one request. */
const checkInterval = "5 seconds"

/** Creates topics again that are deleted while the services run. Runs for ever; needs the permission to create topics. */
export const keepTopics = (kafka: KafkaOptions, wanted: ReadonlyArray<Kafka.NewTopic>): Effect.Effect<never> =>
  Effect.gen(function*() {
    const missing = yield* Kafka.missingTopics(kafka, wanted.map((_) => _.topic))
    if (missing.length === 0) return
    yield* Kafka.createTopics(kafka, wanted.filter((_) => missing.includes(_.topic)))
    yield* Effect.logWarning(`topics were deleted and are created again: ${missing.join(", ")}`)
  }).pipe(
    // consumer and relay report an outage
    Effect.catchAll((error) => Effect.logDebug("cannot check whether all topics exist", error)),
    Effect.delay(checkInterval),
    Effect.forever
  )
