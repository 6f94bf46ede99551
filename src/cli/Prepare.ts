import { Data, Effect, Schedule, Schema } from "effect"
import * as CrashPoint from "../drills/CrashPoint.js"
import type { KafkaOptions, KafkaUnavailable } from "../infra/kafka/KafkaClient.js"
import * as Kafka from "../infra/kafka/KafkaClient.js"
import * as Migrations from "../infra/postgres/Migrations.js"
import type { DatabaseUnavailable } from "../infra/postgres/Postgres.js"
import * as PostgresPooler from "../infra/postgres/PostgresPooler.js"
import * as PostgresRights from "../infra/postgres/PostgresRights.js"
import type { Part } from "../infra/runtime/Health.js"
import { problemOf } from "../infra/runtime/Problem.js"
import type { Reason } from "../infra/runtime/Problem.js"
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

/** A migration or topic is missing, and the settings leave it to another process. */
class StillMissing extends Data.TaggedError("StillMissing")<{
  readonly message: string
  readonly waitsFor: Reason
}> {}

/** True for an error that waiting does not fix: the start fails. */
const isFinal = (error: Migrations.MigrationFailed | Migrations.TableLocked | DatabaseUnavailable | StillMissing) =>
  error._tag === "MigrationFailed" || (error._tag === "DatabaseUnavailable" && error.refused)

/**
 * Ends when the database has the schema and the role has its permissions. Applies pending migrations, or with
 * `migrate: false` waits until another process has applied them.
 *
 * Waits for a database that is away or read-only, and for the lock of a table. Fails with `MigrationFailed`, and with
 * `DatabaseUnavailable` when the database refuses the role, because waiting fixes neither.
 */
export const database = Effect.fn("Prepare.database")(
  function*(options: { readonly migrate: boolean; readonly rights: PostgresRights.Rights; readonly part: Part }) {
    const apply = Effect.gen(function*() {
      const applied = yield* Migrations.migrate(migrations)
      for (const [, name] of applied) yield* Effect.logInfo(`migrated: ${name}`)
    })
    const check = Effect.gen(function*() {
      const pending = yield* Migrations.pending(migrations)
      const names = pending.map(([, name]) => name).join(", ")
      if (names !== "") {
        return yield* new StillMissing({
          message: `not migrated: ${names} (payments migrate)`,
          waitsFor: "migrations"
        })
      }
    })
    yield* PostgresPooler.check.pipe(
      Effect.zipRight(Effect.if(options.migrate, { onTrue: () => apply, onFalse: () => check })),
      Effect.zipRight(PostgresRights.check(options.rights)),
      Effect.tapError((error) =>
        Effect.sync(() => isFinal(error) ? undefined : options.part.failed(problemOf(error, "postgres")))
      ),
      Effect.retry({ schedule: retries, while: (error) => !isFinal(error) }),
      Effect.catchTags({ StillMissing: Effect.die, TableLocked: Effect.die })
    )
    options.part.working()
  }
)

export interface TopicsOptions {
  readonly topics: ReadonlyArray<Kafka.NewTopic>
  /** Create missing topics. Otherwise wait until another process has created them. */
  readonly create: boolean
  /** Gets whether all topics exist. */
  readonly part: Part
  /** A part whose work begins when the topics exist: until then it gets why they do not. */
  readonly follower?: Part
}

/** Looks once whether all topics exist, and creates missing ones. Fails when some are missing, and when no broker answers. */
const look = Effect.fnUntraced(
  function*(admin: Kafka.Admin, { create, part, topics }: TopicsOptions) {
    const missing = yield* Kafka.missingTopics(admin, topics.map((_) => _.topic))
    if (missing.length > 0) {
      if (!create) {
        return yield* new StillMissing({ message: `no such topic: ${missing.join(", ")}`, waitsFor: "topic" })
      }
      yield* Kafka.createTopics(admin, topics.filter((_) => missing.includes(_.topic)))
    }
    part.working()
    return missing
  }
)

/** Runs `use` with an admin client. The part of the topics gets a failure. */
const withAdmin = <A, E extends KafkaUnavailable | StillMissing>(
  kafka: KafkaOptions,
  { part }: TopicsOptions,
  use: (admin: Kafka.Admin) => Effect.Effect<A, E>
) =>
  Kafka.withAdmin(kafka, use).pipe(
    Effect.tapError((error) => Effect.sync(() => part.failed(problemOf(error, "kafka"))))
  )

/** Ends when all topics exist. */
export const topics = Effect.fn("Prepare.topics")(function*(kafka: KafkaOptions, options: TopicsOptions) {
  const created = yield* withAdmin(kafka, options, (admin) => look(admin, options)).pipe(
    Effect.tapError((error) => Effect.sync(() => options.follower?.failed(problemOf(error, "kafka")))),
    Effect.retry(retries),
    Effect.orDie
  )
  if (created.length > 0) yield* Effect.logInfo(`topics created: ${created.join(", ")}`)
})

/** How often `keepTopics` checks all topics, with one request. */
const checkInterval = "5 seconds"

/** Watches the topics while the services run, for ever. Creates topics again that are deleted, if it may. */
export const keepTopics = (kafka: KafkaOptions, options: TopicsOptions): Effect.Effect<never> => {
  const keep = (admin: Kafka.Admin) =>
    look(admin, options).pipe(
      Effect.tap((created) =>
        created.length === 0
          ? Effect.void
          : Effect.logWarning(`topics were deleted and are created again: ${created.join(", ")}`)
      ),
      Effect.zipRight(Effect.sleep(checkInterval)),
      Effect.forever
    )
  return withAdmin(kafka, options, keep).pipe(Effect.ignore, Effect.delay(checkInterval), Effect.forever)
}
