import * as NodeContext from "@effect/platform-node/NodeContext"
import { Effect } from "effect"
import { readFileSync, renameSync, rmSync, writeFileSync } from "node:fs"
import { resolve } from "node:path"
import * as LocalTls from "../../src/cli/LocalTls.js"
import * as Authority from "../../src/local/Authority.js"
import type { Environment } from "./Program.js"
import * as SecuredKafka from "./SecuredKafka.js"
import { freshFolder } from "./World.js"

/** The settings of a Kafka listener that takes a client certificate of these authorities and a password. */
const login = (name: string, authorities: string) => ({
  [`listener.name.${name}.ssl.client.auth`]: "required",
  [`listener.name.${name}.ssl.truststore.type`]: "PEM",
  [`listener.name.${name}.ssl.truststore.certificates`]: authorities,
  [`listener.name.${name}.sasl.enabled.mechanisms`]: "SCRAM-SHA-512",
  [`listener.name.${name}.scram-sha-512.sasl.jaas.config`]:
    "org.apache.kafka.common.security.scram.ScramLoginModule required;"
})

/**
 * What every connection of a world needs, as files for the life of the scope: TLS of `payments local up --tls`, and at one
 * listener of Kafka a client certificate and a password (SCRAM).
 */
export const make = Effect.gen(function*() {
  // the services run in another folder
  const folder = resolve(yield* freshFolder)
  yield* Effect.addFinalizer(() => Effect.sync(() => rmSync(folder, { recursive: true, force: true })))
  const { servers, variables } = yield* LocalTls.make(folder)
  const first = Authority.make("clients of Kafka")
  const caFile = variables.KAFKA_TLS_CA

  /** Replaces a file at once. */
  const file = (name: string, content: string) => {
    writeFileSync(`${folder}/${name}.new`, content)
    renameSync(`${folder}/${name}.new`, `${folder}/${name}`)
    return `${folder}/${name}`
  }
  /** The certificate of an authority and the password, in files whose names begin with `prefix`: variables of a client. */
  const client = (prefix: string, authority: Authority.Authority, password: string): Environment => {
    const { certificate, key } = authority.issue({ names: ["payments"] })
    return {
      KAFKA_TLS: "true",
      KAFKA_TLS_CA: caFile,
      KAFKA_TLS_CERT: file(`${prefix}-certificate.pem`, certificate),
      KAFKA_TLS_KEY: file(`${prefix}-key.pem`, key),
      KAFKA_SASL_MECHANISM: "SCRAM-SHA-512",
      KAFKA_SASL_USERNAME: "payments",
      KAFKA_SASL_PASSWORD_FILE: file(`${prefix}-password`, password)
    }
  }
  return {
    servers,
    /** Variables of the services, without the addresses of the servers. */
    variables: { ...variables, ...client("kafka", first, "first-password") } as Environment,
    /** The same for services whose PostgreSQL, Redis and Kafka do not encrypt. */
    grpc: Object.fromEntries(Object.entries(variables).filter(([name]) => name.startsWith("GRPC_"))) as Environment,
    credentials: {
      ca: servers.authority,
      caFile,
      token: readFileSync(variables.GRPC_TOKEN_FILE, "utf8").trim()
    },
    authorityOfClients: first,
    client,
    /** Properties of the broker, for its listener of this name. */
    listener: (name: string) => login(name.toLowerCase(), first.certificate),
    /** Sets the password of the services, at the listener of the broker that takes any client with TLS. */
    setPassword: (broker: string, password: string) =>
      SecuredKafka.passwordsAt({
        brokers: [broker],
        clientId: "admin",
        security: { tls: { files: { prefix: "KAFKA_TLS", ca: caFile } } }
      })("payments", "SCRAM-SHA-512", password),
    /** The URL of PostgreSQL with a file of the authority that stays when the server starts again. */
    trusting: (databaseUrl: string) => {
      const url = new URL(databaseUrl)
      url.searchParams.set("sslrootcert", caFile)
      return url.href
    }
  } as const
}).pipe(Effect.provide(NodeContext.layer))

export type Secured = Effect.Effect.Success<typeof make>
