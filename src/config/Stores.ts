import * as PostgresUrl from "../infra/postgres/PostgresUrl.js"
import * as RedisUrl from "../infra/redis/RedisUrl.js"
import { optionalSetting, secret, setting, showUrl, text } from "../infra/runtime/Setting.js"

/** The settings of the connections to PostgreSQL. */
export const postgres = {
  databaseUrl: setting("DATABASE_URL", PostgresUrl.setting, {
    about: "PostgreSQL URL (system of record), in the forms of libpq ([docs/postgresql.md](docs/postgresql.md)).",
    default: "postgres://payments:payments@localhost:54321/payments",
    file: "DATABASE_URL_FILE",
    show: PostgresUrl.show
  }),
  databaseUrlFile: optionalSetting("DATABASE_URL_FILE", text, {
    about: "File with that URL, instead of `DATABASE_URL`. Each new connection takes its password from the file again.",
    example: "/run/secrets/database-url"
  }),
  databasePassword: optionalSetting("DATABASE_PASSWORD", secret, {
    about: "Password for PostgreSQL, when the URL has none ([docs/security.md](docs/security.md#postgresql))."
  }),
  databasePasswordFile: optionalSetting("DATABASE_PASSWORD_FILE", text, {
    about: "File with that password. Each new connection reads it again.",
    example: "/run/secrets/database-password"
  }),
  databasePasswordCommand: optionalSetting("DATABASE_PASSWORD_COMMAND", text, {
    about: "Shell command that prints that password. It runs for each new connection, for 10 seconds at most.",
    example: "aws rds generate-db-auth-token --hostname db --port 5432 --username payments_service",
    show: () => "<a command>"
  })
}

/** The settings of the connections to Redis. */
export const redis = {
  redisUrl: setting("REDIS_URL", RedisUrl.setting, {
    about: "Redis URL (cache of handled records), also one of Sentinels ([docs/security.md](docs/security.md#redis)).",
    default: "redis://localhost:6379",
    file: "REDIS_URL_FILE",
    show: showUrl
  }),
  redisUrlFile: optionalSetting("REDIS_URL_FILE", text, {
    about: "File with that URL, instead of `REDIS_URL`. Each new connection takes its password from the file again.",
    example: "/run/secrets/redis-url"
  }),
  redisPassword: optionalSetting("REDIS_PASSWORD", secret, {
    about: "Password for Redis, when the URL has none ([docs/security.md](docs/security.md#redis))."
  }),
  redisPasswordFile: optionalSetting("REDIS_PASSWORD_FILE", text, {
    about: "File with that password. Each new connection reads it again.",
    example: "/run/secrets/redis-password"
  }),
  redisTlsCa: optionalSetting("REDIS_TLS_CA", text, {
    about:
      "Certificates of the authorities that may sign the certificate of Redis, PEM. Empty: those that Node trusts.",
    example: "/etc/payments/redis-ca.pem"
  }),
  redisTlsCert: optionalSetting("REDIS_TLS_CERT", text, {
    about: "Client certificate for Redis, PEM.",
    example: "/etc/payments/redis-client.pem"
  }),
  redisTlsKey: optionalSetting("REDIS_TLS_KEY", text, {
    about: "Key of that certificate, PEM.",
    example: "/etc/payments/redis-client.key"
  })
}
