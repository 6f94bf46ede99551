import { Effect, Either, Option, Record, Redacted } from "effect"
import * as PostgresUrl from "../infra/postgres/PostgresUrl.js"
import * as RedisUrl from "../infra/redis/RedisUrl.js"
import { isLoopback } from "../infra/runtime/Loopback.js"
import * as Secret from "../infra/runtime/Secret.js"
import type { Problem, Setting, Values } from "../infra/runtime/Setting.js"
import { ConfigProblems, token } from "../infra/runtime/Setting.js"
import * as Tls from "../infra/tls/Tls.js"
import { kafka } from "./Kafka.js"
import { servers } from "./Servers.js"
import { postgres, redis } from "./Stores.js"

const settings = { ...kafka, ...postgres, ...redis, ...servers }
type Settings = typeof settings
type Key = keyof Settings
/** The settings that were read: those of others are missing. */
type Read = Partial<Values<Settings>>

const nameOf = (key: Key) => settings[key].name
const example = (key: Key) => (settings[key] as Setting<unknown>).example
const isSet = (read: Read, key: Key) => Option.isOption(read[key]) && Option.isSome<unknown>(read[key])
const textOf = (read: Read, key: Key) => Option.getOrUndefined((read[key] ?? Option.none()) as Option.Option<string>)

/** One problem for each of these settings that is set, because of another setting. */
const unused = (read: Read, keys: ReadonlyArray<Key>, why: string): ReadonlyArray<Problem> =>
  keys.filter((key) => isSet(read, key)).map((key) => ({
    variable: nameOf(key),
    problem: `is set, and ${why}: unset it, or change the other`,
    example: example(key)
  }))

/** One problem for each of these settings that is empty, because of another setting. The file of a secret counts as the secret. */
const needed = (read: Read, keys: ReadonlyArray<Key>, why: string): ReadonlyArray<Problem> =>
  keys.filter((key) => key in read && !isSet(read, key) && !isSet(read, `${key}File` as Key)).map((key) => ({
    variable: nameOf(key),
    problem: `is empty, and ${why}`,
    example: example(key)
  }))

/** A problem where one of both is set and the other is not. */
const pair = (read: Read, one: Key, other: Key): ReadonlyArray<Problem> =>
  isSet(read, one) === isSet(read, other)
    ? []
    : needed(read, [one, other], `${nameOf(isSet(read, one) ? one : other)} is set: it needs both`)

/** A problem where several of these settings are set. */
const onlyOne = (read: Read, ...keys: ReadonlyArray<Key>): ReadonlyArray<Problem> => {
  const [first, second] = keys.filter((key) => isSet(read, key))
  return first === undefined || second === undefined
    ? []
    : [{
      variable: nameOf(first),
      problem: `is set beside ${nameOf(second)}: set one of them`,
      example: example(first)
    }]
}

/** The password of a store comes from one source: of these settings, or its URL. */
const password = (
  read: Read,
  inUrl: boolean,
  url: Key,
  ...keys: ReadonlyArray<Key>
): ReadonlyArray<Problem> => {
  const given = keys.find((key) => isSet(read, key))
  if (given === undefined || !inUrl) return onlyOne(read, ...keys)
  const source = nameOf(isSet(read, `${url}File` as Key) ? `${url}File` as Key : url)
  return [{
    variable: nameOf(given),
    problem: `is set beside the password in ${source}: remove one of them`,
    example: example(given)
  }]
}

const ofPostgres = (read: Read): ReadonlyArray<Problem> => {
  if (read.databaseUrl === undefined) return []
  const url = PostgresUrl.parse(Redacted.value(read.databaseUrl))
  const inUrl = Either.isRight(url) && url.right.password !== undefined
  return password(
    read,
    inUrl,
    "databaseUrl",
    "databasePassword",
    "databasePasswordFile",
    "databasePasswordCommand"
  )
}

const ofRedis = (read: Read): ReadonlyArray<Problem> => {
  if (read.redisUrl === undefined) return []
  const { password: inUrl, scheme, tls } = RedisUrl.parse(read.redisUrl)
  return [
    ...password(read, inUrl !== undefined, "redisUrl", "redisPassword", "redisPasswordFile"),
    ...(tls
      ? []
      : unused(read, ["redisTlsCa", "redisTlsCert", "redisTlsKey"], `${nameOf("redisUrl")} begins with ${scheme}://`)),
    ...pair(read, "redisTlsCert", "redisTlsKey")
  ]
}

const ofLogin = ["kafkaSaslUsername", "kafkaSaslPassword"] as const
const ofToken = ["kafkaOauthTokenUrl", "kafkaOauthClientId", "kafkaOauthClientSecret"] as const

const ofKafka = (read: Read): ReadonlyArray<Problem> => {
  if (read.kafkaTls === undefined || read.kafkaSaslMechanism === undefined) return []
  const mechanism = Option.getOrUndefined(read.kafkaSaslMechanism)
  const why = `${nameOf("kafkaSaslMechanism")} is ${mechanism ?? "empty"}`
  const byToken = mechanism === "OAUTHBEARER"
  return [
    ...(read.kafkaTls
      ? []
      : unused(read, ["kafkaTlsCert", "kafkaTlsKey", "kafkaTlsCa", "kafkaTlsServerName"], "KAFKA_TLS is false")),
    ...pair(read, "kafkaTlsCert", "kafkaTlsKey"),
    ...(mechanism === undefined || byToken
      ? unused(read, [...ofLogin, "kafkaSaslPasswordFile"], why)
      : needed(read, ofLogin, why)),
    ...(byToken
      ? needed(read, ofToken, why)
      : unused(read, [...ofToken, "kafkaOauthClientSecretFile", "kafkaOauthScope", "kafkaOauthTlsCa"], why)),
    ...onlyOne(read, "kafkaSaslPassword", "kafkaSaslPasswordFile"),
    ...onlyOne(read, "kafkaOauthClientSecret", "kafkaOauthClientSecretFile")
  ]
}

/** The settings that each way of authentication needs, and that no other way uses. */
const needs = {
  none: [],
  certificate: ["grpcAuthCertificateNames"],
  token: ["grpcTokensFile"],
  jwt: ["grpcJwksUrl", "grpcJwtIssuer", "grpcJwtAudience"]
} as const satisfies Record<NonNullable<Read["grpcAuth"]>, ReadonlyArray<Key>>

const ofGrpcServer = (read: Read): ReadonlyArray<Problem> => {
  const { grpcAuth } = read
  if (grpcAuth === undefined) return []
  const why = `${nameOf("grpcAuth")} is ${grpcAuth}`
  // an attacker on the way can replace keys that come over HTTP, and then make tokens
  const keys = Option.map(read.grpcJwksUrl ?? Option.none(), (url) => new URL(Redacted.value(url)))
  const isPlain = Option.exists(keys, ({ hostname, protocol }) => protocol === "http:" && !isLoopback(hostname))
  return [
    ...pair(read, "grpcTlsCert", "grpcTlsKey"),
    ...(isSet(read, "grpcTlsClientCa") ? needed(read, ["grpcTlsCert"], "GRPC_TLS_CLIENT_CA is set") : []),
    ...needed(read, needs[grpcAuth], why),
    ...Object.entries(needs).flatMap(([way, keys]) => way === grpcAuth ? [] : unused(read, keys, why)),
    ...(grpcAuth === "certificate" ? needed(read, ["grpcTlsClientCa"], why) : []),
    ...(isPlain && read.insecure === false
      ? [{
        variable: nameOf("grpcJwksUrl"),
        problem: "gets the keys of tokens without TLS: use https:, or INSECURE=true if that is meant",
        example: example("grpcJwksUrl")
      }]
      : [])
  ]
}

const ofGrpcClient = (read: Read): ReadonlyArray<Problem> =>
  read.grpcTls === undefined ? [] : [
    ...(Option.contains(read.grpcTls, false)
      ? unused(
        read,
        ["grpcTlsCa", "grpcTlsServerName", "grpcTlsClientCert", "grpcTlsClientKey"],
        "GRPC_TLS is false"
      )
      : []),
    ...pair(read, "grpcTlsClientCert", "grpcTlsClientKey"),
    ...onlyOne(read, "grpcToken", "grpcTokenFile")
  ]

const ofHttp = (read: Read): ReadonlyArray<Problem> => [
  ...pair(read, "httpTlsCert", "httpTlsKey"),
  ...onlyOne(read, "adminToken", "adminTokenFile")
]

/** Secrets with a file. The file must have the secret at the start. */
const secrets = {
  kafkaSaslPassword: undefined,
  kafkaOauthClientSecret: undefined,
  databasePassword: undefined,
  redisPassword: undefined,
  grpcToken: token,
  adminToken: token
} as const

/** The PEM files of clients, after the setting of their client. Those of servers are read where the servers run. */
const pemFiles = {
  KAFKA_TLS: ["kafkaTls", "kafkaTlsCa", "kafkaTlsCert", "kafkaTlsKey"],
  KAFKA_OAUTH_TLS: ["kafkaOauthTokenUrl", "kafkaOauthTlsCa"],
  REDIS_TLS: ["redisUrl", "redisTlsCa", "redisTlsCert", "redisTlsKey"]
} as const satisfies Record<string, ReadonlyArray<Key>>

/** The problems of the files that settings name. */
const ofFiles = (read: Read) =>
  Effect.all([
    ...Object.entries(pemFiles).filter(([, [client]]) => client in read).map(([prefix, [, ca, cert, key]]) =>
      Effect.match(
        Tls.load({
          prefix,
          ca: textOf(read, ca),
          cert: cert && textOf(read, cert),
          key: key && textOf(read, key)
        }),
        {
          onSuccess: () => [],
          onFailure: ({ problem, variable }): ReadonlyArray<Problem> => [{ variable, problem, example: example(ca) }]
        }
      )
    ),
    ...Record.toEntries(secrets).map(([key, parse]) => {
      const file = key in read && !isSet(read, key) ? textOf(read, `${key}File`) : undefined
      const source = { variable: nameOf(key), value: Option.none(), file: Option.fromNullable(file), parse }
      return Effect.match(
        Option.match(Secret.of(source), { onNone: () => Effect.void, onSome: ({ get }) => Effect.asVoid(get) }),
        {
          onSuccess: () => [],
          onFailure: ({ problem, variable }): ReadonlyArray<Problem> => [
            { variable, problem, example: example(`${key}File`) }
          ]
        }
      )
    })
  ])

/**
 * Fails with all problems of settings that contradict each other or lack their other half, and of files that have not what their
 * settings say. Settings that were not read are missing, and have no problems.
 */
export const check = (read: Read): Effect.Effect<void, ConfigProblems> =>
  Effect.flatMap(ofFiles(read), (files) => {
    const problems = [
      ...[ofPostgres, ofRedis, ofKafka, ofGrpcServer, ofGrpcClient, ofHttp].flatMap((check) => check(read)),
      ...files.flat()
    ]
    return problems.length === 0 ? Effect.void : new ConfigProblems({ problems })
  })
