import * as KafkaSecurity from "../infra/kafka/KafkaSecurity.js"
import {
  brokers,
  duration,
  flag,
  oneOf,
  optionalSetting,
  secret,
  setting,
  showDuration,
  showUrl,
  text,
  tokenUrl
} from "../infra/runtime/Setting.js"

/** The settings of the connections to Kafka, and of the consumer group. */
export const kafka = {
  kafkaBrokers: setting("KAFKA_BROKERS", brokers, {
    about: "Kafka brokers, comma-separated.",
    default: "localhost:9095",
    example: "kafka-1:9092,kafka-2:9092"
  }),
  kafkaGroupId: setting("KAFKA_GROUP_ID", text, {
    about: "Consumer group of topic `inventory`.",
    default: "payments"
  }),
  kafkaSessionTimeout: setting("KAFKA_SESSION_TIMEOUT", duration("6 seconds"), {
    about: "How long a consumer that is silent, or without PostgreSQL, keeps its partitions before others get them.",
    default: "15s",
    show: showDuration
  }),
  kafkaClientId: setting("KAFKA_CLIENT_ID", text, {
    about: "Client id of this process at the brokers.",
    default: "payments"
  }),
  kafkaCreateTopics: setting("KAFKA_CREATE_TOPICS", flag, {
    about: "Create missing topics (4 partitions), at start and later. `false`: wait for them.",
    default: "true"
  }),
  kafkaTls: setting("KAFKA_TLS", flag, {
    about: "Encrypt the connections to Kafka ([docs/security.md](docs/security.md#kafka)).",
    default: "false",
    example: "true"
  }),
  kafkaTlsCa: optionalSetting("KAFKA_TLS_CA", text, {
    about: "PEM file of the authorities that may sign the brokers' certificates. Empty: those that Node trusts.",
    example: "/etc/payments/kafka-ca.pem"
  }),
  kafkaTlsCert: optionalSetting("KAFKA_TLS_CERT", text, {
    about: "PEM file of the client certificate with its chain, for brokers that demand one.",
    example: "/etc/payments/kafka-client.pem"
  }),
  kafkaTlsKey: optionalSetting("KAFKA_TLS_KEY", text, {
    about: "PEM file of the key of that certificate.",
    example: "/etc/payments/kafka-client-key.pem"
  }),
  kafkaTlsServerName: optionalSetting("KAFKA_TLS_SERVER_NAME", text, {
    about: "Name in the certificate of every broker, where it is not the host that the client connects to.",
    example: "kafka.example.com"
  }),
  kafkaSaslMechanism: optionalSetting(
    "KAFKA_SASL_MECHANISM",
    oneOf(...KafkaSecurity.passwordMechanisms, "OAUTHBEARER"),
    {
      about: "Login at Kafka: `PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512` or `OAUTHBEARER`. Empty: none.",
      example: "SCRAM-SHA-512"
    }
  ),
  kafkaSaslUsername: optionalSetting("KAFKA_SASL_USERNAME", text, {
    about: "User of `PLAIN` and `SCRAM`.",
    example: "payments"
  }),
  kafkaSaslPassword: optionalSetting("KAFKA_SASL_PASSWORD", secret, {
    about: "Password of `PLAIN` and `SCRAM`.",
    example: "a-long-random-text"
  }),
  kafkaSaslPasswordFile: optionalSetting("KAFKA_SASL_PASSWORD_FILE", text, {
    about: "File with that password, read again for each connection.",
    example: "/run/secrets/kafka-sasl-password"
  }),
  kafkaOauthTokenUrl: optionalSetting("KAFKA_OAUTH_TOKEN_URL", tokenUrl, {
    about: "Token endpoint of `OAUTHBEARER`: `https:`, or `http:` on this host.",
    example: "https://login.example.com/oauth2/token",
    show: showUrl
  }),
  kafkaOauthClientId: optionalSetting("KAFKA_OAUTH_CLIENT_ID", text, {
    about: "Client id at the token endpoint.",
    example: "payments"
  }),
  kafkaOauthClientSecret: optionalSetting("KAFKA_OAUTH_CLIENT_SECRET", secret, {
    about: "Client secret at the token endpoint.",
    example: "a-long-random-text"
  }),
  kafkaOauthClientSecretFile: optionalSetting("KAFKA_OAUTH_CLIENT_SECRET_FILE", text, {
    about: "File with that secret, read again for each token.",
    example: "/run/secrets/kafka-oauth-client-secret"
  }),
  kafkaOauthScope: optionalSetting("KAFKA_OAUTH_SCOPE", text, {
    about: "Scopes to ask for, with spaces between them. Empty: those of the endpoint.",
    example: "kafka"
  }),
  kafkaOauthTlsCa: optionalSetting("KAFKA_OAUTH_TLS_CA", text, {
    about: "PEM file of the authorities that may sign the token endpoint's certificate. Empty: those that Node trusts.",
    example: "/etc/payments/oauth-ca.pem"
  })
}
