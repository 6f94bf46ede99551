import { Option, Redacted } from "effect"
import * as Secret from "../runtime/Secret.js"
import type * as Tls from "../tls/Tls.js"
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

/** What these settings ask for. */
export const security = (values: Values): KafkaSecurity => ({
  tls: values.kafkaTls
    ? { files: tlsFiles(values), serverName: Option.getOrUndefined(values.kafkaTlsServerName) }
    : undefined,
  sasl: Option.getOrUndefined(saslOf(values))
})
