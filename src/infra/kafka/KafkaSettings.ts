import { Effect, Option, Redacted } from "effect"
import * as Secret from "../runtime/Secret.js"
import { ConfigProblems } from "../runtime/Setting.js"
import * as Tls from "../tls/Tls.js"
import type { KafkaSasl, KafkaSecurity, passwordMechanisms } from "./KafkaSecurity.js"
import type { OAuthToken } from "./OAuthToken.js"
import * as Token from "./OAuthToken.js"

/** The settings of encryption and authentication at Kafka. */
export const names = [
  "kafkaTls",
  "kafkaTlsCa",
  "kafkaTlsCert",
  "kafkaTlsKey",
  "kafkaTlsServerName",
  "kafkaSaslMechanism",
  "kafkaSaslUsername",
  "kafkaSaslPassword",
  "kafkaSaslPasswordFile",
  "kafkaOauthTokenUrl",
  "kafkaOauthClientId",
  "kafkaOauthClientSecret",
  "kafkaOauthClientSecretFile",
  "kafkaOauthScope",
  "kafkaOauthTlsCa"
] as const

type Text = Option.Option<string>
type Hidden = Option.Option<Redacted.Redacted>

export interface Values {
  readonly kafkaTls: boolean
  readonly kafkaTlsCa: Text
  readonly kafkaTlsCert: Text
  readonly kafkaTlsKey: Text
  readonly kafkaTlsServerName: Text
  readonly kafkaSaslMechanism: Option.Option<typeof passwordMechanisms[number] | "OAUTHBEARER">
  readonly kafkaSaslUsername: Text
  readonly kafkaSaslPassword: Hidden
  readonly kafkaSaslPasswordFile: Text
  readonly kafkaOauthTokenUrl: Hidden
  readonly kafkaOauthClientId: Text
  readonly kafkaOauthClientSecret: Hidden
  readonly kafkaOauthClientSecretFile: Text
  readonly kafkaOauthScope: Text
  readonly kafkaOauthTlsCa: Text
}

const tlsFiles = (values: Values): Tls.TlsFiles => ({
  prefix: "KAFKA_TLS",
  ca: Option.getOrUndefined(values.kafkaTlsCa),
  cert: Option.getOrUndefined(values.kafkaTlsCert),
  key: Option.getOrUndefined(values.kafkaTlsKey)
})

const oauthFiles = ({ kafkaOauthTlsCa }: Values): Tls.TlsFiles => ({
  prefix: "KAFKA_OAUTH_TLS",
  ca: Option.getOrUndefined(kafkaOauthTlsCa)
})

const password = (values: Values): Secret.SecretSource => ({
  variable: "KAFKA_SASL_PASSWORD",
  value: values.kafkaSaslPassword,
  file: values.kafkaSaslPasswordFile
})

const clientSecret = (values: Values): Secret.SecretSource => ({
  variable: "KAFKA_OAUTH_CLIENT_SECRET",
  value: values.kafkaOauthClientSecret,
  file: values.kafkaOauthClientSecretFile
})

interface Problem {
  readonly variable: string
  readonly problem: string
  readonly example: string
}

/** An example of each variable that can be missing. */
const examples = {
  KAFKA_TLS_CERT: "/etc/payments/kafka-client.pem",
  KAFKA_TLS_KEY: "/etc/payments/kafka-client-key.pem",
  KAFKA_SASL_USERNAME: "payments",
  KAFKA_SASL_PASSWORD: "a-long-random-text",
  KAFKA_OAUTH_TOKEN_URL: "https://login.example.com/oauth2/token",
  KAFKA_OAUTH_CLIENT_ID: "payments",
  KAFKA_OAUTH_CLIENT_SECRET: "a-long-random-text"
}

type Given = Readonly<Record<string, boolean>>

const excess = (given: Given, why: string): ReadonlyArray<Problem> =>
  Object.entries(given).flatMap(([variable, isSet]) =>
    isSet ? [{ variable, problem: `is set, and ${why}: unset it, or change the other`, example: "" }] : []
  )

const missing = (given: Given, why: string): ReadonlyArray<Problem> =>
  Object.entries(given).flatMap(([variable, isSet]) =>
    isSet
      ? []
      : [{ variable, problem: `is empty, and ${why}`, example: examples[variable as keyof typeof examples] }]
  )

/** Settings that contradict each other, and missing halves. */
const contradictions = (values: Values): ReadonlyArray<Problem> => {
  const mechanism = Option.getOrUndefined(values.kafkaSaslMechanism)
  const isSet = (...options: ReadonlyArray<Option.Option<unknown>>) => options.some(Option.isSome)
  const pair = { KAFKA_TLS_CERT: isSet(values.kafkaTlsCert), KAFKA_TLS_KEY: isSet(values.kafkaTlsKey) }
  const ofTls = {
    ...pair,
    KAFKA_TLS_CA: isSet(values.kafkaTlsCa),
    KAFKA_TLS_SERVER_NAME: isSet(values.kafkaTlsServerName)
  }
  const ofPassword = {
    KAFKA_SASL_USERNAME: isSet(values.kafkaSaslUsername),
    KAFKA_SASL_PASSWORD: isSet(values.kafkaSaslPassword, values.kafkaSaslPasswordFile)
  }
  const ofToken = {
    KAFKA_OAUTH_TOKEN_URL: isSet(values.kafkaOauthTokenUrl),
    KAFKA_OAUTH_CLIENT_ID: isSet(values.kafkaOauthClientId),
    KAFKA_OAUTH_CLIENT_SECRET: isSet(values.kafkaOauthClientSecret, values.kafkaOauthClientSecretFile)
  }
  const choicesOfToken = {
    KAFKA_OAUTH_SCOPE: isSet(values.kafkaOauthScope),
    KAFKA_OAUTH_TLS_CA: isSet(values.kafkaOauthTlsCa)
  }
  const login = `KAFKA_SASL_MECHANISM is ${mechanism ?? "empty"}`
  const byToken = mechanism === "OAUTHBEARER"
  return [
    ...(values.kafkaTls ? [] : excess(ofTls, "KAFKA_TLS is false")),
    ...(pair.KAFKA_TLS_CERT === pair.KAFKA_TLS_KEY
      ? []
      : missing(pair, pair.KAFKA_TLS_CERT ? "KAFKA_TLS_CERT is set" : "KAFKA_TLS_KEY is set")),
    ...(mechanism === undefined || byToken ? excess(ofPassword, login) : missing(ofPassword, login)),
    ...(byToken ? missing(ofToken, login) : excess({ ...ofToken, ...choicesOfToken }, login))
  ]
}

/** The problems of an effect that checks a file; none when it succeeds. */
const problemsOf = <E>(check: Effect.Effect<unknown, E>, toProblems: (error: E) => ReadonlyArray<Problem>) =>
  Effect.match(check, { onSuccess: () => [], onFailure: toProblems })

const ofFiles = (files: Tls.TlsFiles) =>
  problemsOf(Tls.load(files), ({ problem, variable }) => [{ variable, problem, example: "/etc/payments/kafka.pem" }])

const ofSecret = (source: Secret.SecretSource) => problemsOf(Secret.choose(source), ({ problems }) => problems)

/** Fails when settings contradict each other, when one lacks its other half, and when a file has not what it should have. */
export const check = (values: Values): Effect.Effect<void, ConfigProblems> =>
  Effect.all([
    Effect.succeed(contradictions(values)),
    ofFiles(tlsFiles(values)),
    ofFiles(oauthFiles(values)),
    ofSecret(password(values)),
    ofSecret(clientSecret(values))
  ]).pipe(
    Effect.map((all) => all.flat()),
    Effect.flatMap((problems) => problems.length === 0 ? Effect.void : new ConfigProblems({ problems }))
  )

/** The token of each account: all clients of a process share it, also those whose settings were read again. */
const tokens = new Map<string, OAuthToken>()

const tokenOf = (values: Values, url: string, clientId: string, secret: Secret.Secret): OAuthToken => {
  const { kafkaOauthClientSecret, kafkaOauthClientSecretFile, kafkaOauthScope, kafkaOauthTlsCa } = values
  const account = [
    url,
    clientId,
    ...[
      Option.map(kafkaOauthClientSecret, Redacted.value),
      kafkaOauthClientSecretFile,
      kafkaOauthScope,
      kafkaOauthTlsCa
    ]
      .map(Option.getOrNull)
  ]
  const key = JSON.stringify(account)
  const token = tokens.get(key) ??
    Token.make({ url, clientId, clientSecret: secret, scope: kafkaOauthScope, tls: oauthFiles(values) })
  tokens.set(key, token)
  return token
}

const saslOf = (values: Values): Option.Option<KafkaSasl> =>
  Option.flatMap(values.kafkaSaslMechanism, (mechanism): Option.Option<KafkaSasl> =>
    mechanism === "OAUTHBEARER"
      ? Option.map(
        Option.all([values.kafkaOauthTokenUrl, values.kafkaOauthClientId, Secret.of(clientSecret(values))]),
        ([url, id, secret]) => ({ mechanism, token: tokenOf(values, Redacted.value(url), id, secret) })
      )
      : Option.map(
        Option.all([values.kafkaSaslUsername, Secret.of(password(values))]),
        ([username, password]) => ({ mechanism, username, password })
      ))

/** What these settings ask for. Check them first. */
export const security = (values: Values): KafkaSecurity => ({
  tls: values.kafkaTls
    ? { files: tlsFiles(values), serverName: Option.getOrUndefined(values.kafkaTlsServerName) }
    : undefined,
  sasl: Option.getOrUndefined(saslOf(values))
})
