import type { Duration } from "effect"
import { Effect, Either, Option } from "effect"
import type { ConfigOf } from "../Config.js"
import type { KafkaOptions } from "../infra/kafka/KafkaClient.js"
import * as KafkaDescription from "../infra/kafka/KafkaDescription.js"
import * as DatabaseClock from "../infra/postgres/DatabaseClock.js"
import type { RedisServer as Server } from "../infra/redis/RedisAccess.js"
import * as RedisDescription from "../infra/redis/RedisDescription.js"
import type { CertificateFile } from "../infra/tls/CertificateExpiry.js"
import * as Certificates from "./Certificates.js"
import * as Clocks from "./Clocks.js"
import * as Database from "./Database.js"
import type { Place, Result } from "./Finding.js"
import { at } from "./Finding.js"
import type { GroupAsked } from "./Group.js"
import * as Group from "./Group.js"
import * as RedisServer from "./RedisServer.js"
import * as Sessions from "./Sessions.js"
import * as Times from "./Times.js"
import type { TopicsAsked } from "./Topics.js"
import * as Topics from "./Topics.js"

export interface DoctorOptions extends Database.TablesAsked {
  readonly config:
    & Times.TimesConfig
    & TopicsAsked["config"]
    & GroupAsked["config"]
    & ConfigOf<"databasePoolSize">
  /** The brokers of the consumer and the relay. */
  readonly kafka: KafkaOptions | undefined
  /** The topics that the parts use. */
  readonly topics: ReadonlyArray<string>
  /** A consumer of topic `inventory` is among the parts. */
  readonly consumes: boolean
  /** Redis of the consumer. */
  readonly redis: Server | undefined
  /** A relay is among the parts. */
  readonly relays: boolean
  /** The own certificates of the parts. */
  readonly certificates: ReadonlyArray<CertificateFile>
  /** The part of SHUTDOWN_TIMEOUT in which work may finish. */
  readonly drainTime: Duration.Duration
}

/** A server that did not answer, or refused the service. */
type Failure =
  | Effect.Effect.Error<ReturnType<typeof kafkaFacts>>
  | Effect.Effect.Error<ReturnType<typeof redisFacts>>
  | Effect.Effect.Error<typeof Database.checkServer>

/** What a run found. */
export interface Diagnosis {
  readonly results: ReadonlyArray<Result>
  /** Servers that did not answer; their checks count as not checked. */
  readonly failures: ReadonlyArray<Failure>
}

const kafkaFacts = (kafka: KafkaOptions, { config, consumes, topics }: DoctorOptions) =>
  KafkaDescription.describe(kafka, topics, consumes ? config.kafkaGroupId : undefined)

const redisFacts = (server: Server) => RedisDescription.describe(server)

/** The results of a server; a failure is the result that its checks were not made. */
const ofServer = <E extends Failure, R>(place: Place, look: Effect.Effect<ReadonlyArray<Result>, E, R>) =>
  Effect.match(look, {
    onSuccess: (results): Diagnosis => ({ results, failures: [] }),
    onFailure: (error): Diagnosis => {
      const reason = error._tag === "RedisUnavailable" ? (error.cause as Error).message : undefined
      const why = reason === undefined ? error.message : `${error.message}: ${reason}`
      return { results: [at(place).notChecked(`${place}.reachable`, why)], failures: [error] }
    }
  })

const ofKafka = (brokers: KafkaOptions, options: DoctorOptions, spread: Option.Option<number>) =>
  Effect.map(kafkaFacts(brokers, options), (description) => [
    ...Topics.check({ ...options, spread }, description),
    ...Group.check(options, description)
  ])

const ofRedis = (server: Server, withClock: boolean) =>
  Effect.map(redisFacts(server), (description) =>
    Either.match(description, {
      onLeft: (why) => [at("redis").notChecked("redis.info", why)],
      onRight: (description) => [
        ...RedisServer.check(description),
        ...(withClock ? [Clocks.check("redis", Either.right(description.clockAhead))] : [])
      ]
    }))

const together = (all: ReadonlyArray<Diagnosis>): Diagnosis => ({
  results: all.flatMap(({ results }) => results),
  failures: all.flatMap(({ failures }) => failures)
})

/** The checks that ask no server. */
const here = (options: DoctorOptions): Effect.Effect<Diagnosis> =>
  Effect.map(Certificates.check(options.certificates), (certificates) => ({
    results: [...Times.check(options.config, options), ...certificates],
    failures: []
  }))

/** The partitions over which payments were spread last; none without a relay, or while the database does not tell them. */
const spreadOf = ({ config, relays }: DoctorOptions) =>
  relays
    ? Effect.orElseSucceed(Database.spreadOf(config.paymentTopic), () => Option.none<number>())
    : Effect.succeedNone

const connections = ({ config }: DoctorOptions) =>
  Database.orNotChecked("postgresql.connections")(Sessions.checkConnections(config.databasePoolSize))

/** All checks. Reads only. */
export const examine = Effect.fn("Doctor.examine")(function*(options: DoctorOptions) {
  const database = ofServer(
    "postgresql",
    Effect.map(
      Effect.all([
        Database.checkServer,
        connections(options),
        Database.orNotChecked("postgresql.transactions")(Sessions.checkTransactions()),
        Database.orNotAnswered("postgresql.tables")(Database.checkTables(options)),
        Effect.map(DatabaseClock.measure, (ahead) => [Clocks.check("postgresql", Either.right(ahead))])
      ]),
      (results) => results.flat()
    )
  )
  const kafka = (brokers: KafkaOptions) =>
    Effect.flatMap(spreadOf(options), (spread) =>
      ofServer(
        "kafka",
        Effect.map(
          Effect.all([
            ofKafka(brokers, options, spread),
            Effect.map(KafkaDescription.clockAhead(brokers), (ahead) => [Clocks.check("kafka", ahead)])
          ]),
          (results) => results.flat()
        )
      ))
  const all = yield* Effect.all([
    here(options),
    database,
    ...(options.kafka === undefined ? [] : [kafka(options.kafka)]),
    ...(options.redis === undefined ? [] : [ofServer("redis", ofRedis(options.redis, true))])
  ], { concurrency: "unbounded" })
  return together(all)
})

/**
 * The cheap checks, for the start of a process: settings, topics, limits and servers. The rest is checked while the process
 * prepares and runs: migrations, rights, sequences, the clock of the database.
 */
export const glance = Effect.fn("Doctor.glance")(function*(options: DoctorOptions) {
  const { kafka } = options
  const ofBrokers = kafka === undefined
    ? []
    : [Effect.flatMap(spreadOf(options), (spread) => ofServer("kafka", ofKafka(kafka, options, spread)))]
  const all = yield* Effect.all([
    here(options),
    ofServer(
      "postgresql",
      Effect.map(
        Effect.all([Database.checkServer, connections(options)]),
        (results) => results.flat()
      )
    ),
    ...ofBrokers,
    ...(options.redis === undefined ? [] : [ofServer("redis", ofRedis(options.redis, false))])
  ])
  return together(all)
})

/** Logs each finding of the cheap checks once, as a warning. A value that cannot be read now is left to `payments doctor`. */
export const warn = (options: DoctorOptions) =>
  Effect.flatMap(glance(options), ({ results }) =>
    Effect.forEach(
      results,
      ({ check, fault, found }) =>
        fault === undefined
          ? Effect.void
          : Effect.annotateLogs(Effect.logWarning(`${found}: ${fault.consequence}; ${fault.remedy}`), { check }),
      { discard: true }
    )).pipe(
      // a bug of the doctor must not end the service
      Effect.catchAllDefect((bug) => Effect.logError("a bug ended the checks of the start", bug))
    )
