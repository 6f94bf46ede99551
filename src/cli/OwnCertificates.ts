import { Either, Option, Redacted } from "effect"
import type { ConfigOf } from "../Config.js"
import * as PostgresUrl from "../infra/postgres/PostgresUrl.js"
import type { CertificateFile } from "../infra/tls/CertificateExpiry.js"
import type { Role } from "../ops/Parts.js"

type Config = ConfigOf<
  "databaseUrl" | "grpcTlsCert" | "httpTlsCert" | "kafkaTls" | "kafkaTlsCert" | "redisTlsCert"
>

const file = (variable: string, path: Option.Option<string>): ReadonlyArray<CertificateFile> =>
  Option.match(path, { onNone: () => [], onSome: (path) => [{ variable, path }] })

/** The certificates of a process with these roles: those of its servers, and those that it shows to other servers. */
export const of = (config: Config, running: ReadonlyArray<Role>): ReadonlyArray<CertificateFile> => [
  ...file("HTTP_TLS_CERT", config.httpTlsCert),
  ...(running.includes("grpc") ? file("GRPC_TLS_CERT", config.grpcTlsCert) : []),
  ...file(
    "DATABASE_URL",
    Option.flatMapNullable(
      Either.getRight(PostgresUrl.parse(Redacted.value(config.databaseUrl))),
      ({ tls }) => tls.cert
    )
  ),
  ...(running.some((role) => role !== "grpc") && config.kafkaTls ? file("KAFKA_TLS_CERT", config.kafkaTlsCert) : []),
  ...(running.includes("consumer") ? file("REDIS_TLS_CERT", config.redisTlsCert) : [])
]
