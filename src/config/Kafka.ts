import * as KafkaSecurity from "../infra/kafka/KafkaSecurity.js"
import {
  brokers,
  duration,
  flag,
  oneOf,
  optional,
  secret,
  setting,
  showDuration,
  showOptional,
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
    about: "How long a silent consumer keeps its partitions before the group assigns them to others.",
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
  kafkaTlsCa: setting("KAFKA_TLS_CA", optional(text), {
    about: "PEM file of the authorities that may sign the brokers' certificates. Empty: those that Node trusts.",
    default: "",
    example: "/etc/payments/kafka-ca.pem",
    show: showOptional(String)
  }),
  kafkaTlsCert: setting("KAFKA_TLS_CERT", optional(text), {
    about: "PEM file of the client certificate with its chain, for brokers that demand one.",
    default: "",
    example: "/etc/payments/kafka-client.pem",
    show: showOptional(String)
  }),
  kafkaTlsKey: setting("KAFKA_TLS_KEY", optional(text), {
    about: "PEM file of the key of that certificate.",
    default: "",
    example: "/etc/payments/kafka-client-key.pem",
    show: showOptional(String)
  }),
  kafkaTlsServerName: setting("KAFKA_TLS_SERVER_NAME", optional(text), {
    about: "Name in the certificate of every broker, where it is not the host that the client connects to.",
    default: "",
    example: "kafka.example.com",
    show: showOptional(String)
  }),
  kafkaSaslMechanism: setting(
    "KAFKA_SASL_MECHANISM",
    optional(oneOf(...KafkaSecurity.passwordMechanisms, "OAUTHBEARER")),
    {
      about: "Login at Kafka: `PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512` or `OAUTHBEARER`. Empty: none.",
      default: "",
      example: "SCRAM-SHA-512",
      show: showOptional(String)
    }
  ),
  kafkaSaslUsername: setting("KAFKA_SASL_USERNAME", optional(text), {
    about: "User of `PLAIN` and `SCRAM`.",
    default: "",
    example: "payments",
    show: showOptional(String)
  }),
  kafkaSaslPassword: setting("KAFKA_SASL_PASSWORD", optional(secret), {
    about: "Password of `PLAIN` and `SCRAM`.",
    default: "",
    example: "a-long-random-text",
    show: showOptional(String)
  }),
  kafkaSaslPasswordFile: setting("KAFKA_SASL_PASSWORD_FILE", optional(text), {
    about: "File with that password, read again for each connection.",
    default: "",
    example: "/run/secrets/kafka-sasl-password",
    show: showOptional(String)
  }),
  kafkaOauthTokenUrl: setting("KAFKA_OAUTH_TOKEN_URL", optional(tokenUrl), {
    about: "Token endpoint of `OAUTHBEARER`: `https:`, or `http:` on this host.",
    default: "",
    example: "https://login.example.com/oauth2/token",
    show: showOptional(showUrl)
  }),
  kafkaOauthClientId: setting("KAFKA_OAUTH_CLIENT_ID", optional(text), {
    about: "Client id at the token endpoint.",
    default: "",
    example: "payments",
    show: showOptional(String)
  }),
  kafkaOauthClientSecret: setting("KAFKA_OAUTH_CLIENT_SECRET", optional(secret), {
    about: "Client secret at the token endpoint.",
    default: "",
    example: "a-long-random-text",
    show: showOptional(String)
  }),
  kafkaOauthClientSecretFile: setting("KAFKA_OAUTH_CLIENT_SECRET_FILE", optional(text), {
    about: "File with that secret, read again for each token.",
    default: "",
    example: "/run/secrets/kafka-oauth-client-secret",
    show: showOptional(String)
  }),
  kafkaOauthScope: setting("KAFKA_OAUTH_SCOPE", optional(text), {
    about: "Scopes to ask for, with spaces between them. Empty: those of the endpoint.",
    default: "",
    example: "kafka",
    show: showOptional(String)
  }),
  kafkaOauthTlsCa: setting("KAFKA_OAUTH_TLS_CA", optional(text), {
    about: "PEM file of the authorities that may sign the token endpoint's certificate. Empty: those that Node trusts.",
    default: "",
    example: "/etc/payments/oauth-ca.pem",
    show: showOptional(String)
  })
}
