import * as NodeContext from "@effect/platform-node/NodeContext"
import { ConfigProvider, Context, Effect, Layer } from "effect"
import type { AclEntry } from "kafkajs"
import { pbkdf2Sync, randomBytes } from "node:crypto"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { createRequire } from "node:module"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { kafkaOptions } from "../../src/cli/Services.js"
import { kafkaClient, readSettings } from "../../src/Config.js"
import * as Kafka from "../../src/infra/kafka/KafkaClient.js"
import { clusterOf } from "../../src/infra/kafka/KafkaTopic.js"
import * as Authority from "../../src/local/Authority.js"
import * as Stack from "../../src/local/Stack.js"
import { freePort } from "./FreePort.js"
import * as TokenEndpoint from "./TokenEndpoint.js"
import { freshFolder } from "./World.js"

interface Encoder {
  readonly writeInt8: (value: number) => Encoder
  readonly writeInt32: (value: number) => Encoder
  readonly writeUVarInt: (value: number) => Encoder
  readonly writeUVarIntString: (value: string) => Encoder
  readonly writeUVarIntBytes: (value: Buffer) => Encoder
}

const require = createRequire(import.meta.url)
const Encoder = require("kafkajs/src/protocol/encoder") as new() => Encoder

/** The enumerations of kafkajs, which Node cannot import by their names. */
const types = { TOPIC: 2, GROUP: 3, CLUSTER: 4, TRANSACTIONAL_ID: 5 } as const
const operations = { READ: 3, WRITE: 4, CREATE: 5, DELETE: 6, DESCRIBE: 8, DESCRIBE_CONFIGS: 10 } as const
const [literal, prefixed, allow] = [3, 4, 3]

export interface Grant {
  readonly type: keyof typeof types
  readonly name: string
  readonly prefixed?: boolean
  readonly operations: ReadonlyArray<keyof typeof operations>
}

const scram = {
  "SCRAM-SHA-256": { code: 1, digest: "sha256", length: 32 },
  "SCRAM-SHA-512": { code: 2, digest: "sha512", length: 64 }
} as const

const iterations = 4096

/** AlterUserScramCredentials, version 0: https://kafka.apache.org/protocol#The_Messages_AlterUserScramCredentials */
const alterRequest = (user: string, mechanism: keyof typeof scram, password: string) => {
  const { code, digest, length } = scram[mechanism]
  const salt = randomBytes(16)
  const salted = pbkdf2Sync(password, salt, iterations, length, digest)
  return {
    request: {
      apiKey: 51,
      apiVersion: 0,
      apiName: "AlterUserScramCredentials",
      encode: () => {
        const encoder = new Encoder()
        // the header's fields, no deletion, one change
        encoder.writeUVarInt(0).writeUVarInt(1).writeUVarInt(2)
        encoder.writeUVarIntString(user).writeInt8(code).writeInt32(iterations)
        encoder.writeUVarIntBytes(salt).writeUVarIntBytes(salted).writeUVarInt(0).writeUVarInt(0)
        return Promise.resolve(encoder)
      }
    },
    response: {
      decode: (data: Buffer) => Promise.resolve(data),
      parse: (data: unknown) => Promise.resolve(data)
    }
  }
}

/** Sets the password of a user, as an administrator with these options. */
export const passwordsAt =
  (admin: Kafka.KafkaOptions) => (user: string, mechanism: keyof typeof scram, password: string) =>
    Effect.acquireUseRelease(
      Effect.sync(() => {
        const kafka = Kafka.client(admin)
        return { kafka, cluster: clusterOf(kafka) }
      }),
      ({ cluster }) =>
        Effect.promise(async () => {
          await cluster.connect()
          const broker = await cluster.brokerPool.findConnectedBroker()
          const answer = await broker.connectionPool.send(alterRequest(user, mechanism, password)) as Buffer
          // throttle time, one result: user, error code
          if (answer.readInt16BE(1 + 4 + 1 + 1 + user.length) !== 0) throw new Error(`no password for ${user}`)
        }),
      ({ cluster, kafka }) => Kafka.close(kafka, cluster, "1 second")
    )

const day = 86_400_000

const make = Effect.gen(function*() {
  const [authority, stranger] = [Authority.make("brokers"), Authority.make("brokers")]
  const folder = yield* Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "payments-kafka-"))),
    (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true }))
  )
  const file = (name: string, content: string) => {
    const path = join(folder, name)
    writeFileSync(path, content)
    return path
  }
  const filesOf = (name: string, { certificate, key }: Authority.Identity) => ({
    KAFKA_TLS_CERT: file(`${name}.pem`, certificate),
    KAFKA_TLS_KEY: file(`${name}-key.pem`, key)
  })
  const yesterday = new Date(new Date().getTime() - day)
  const before = new Date(yesterday.getTime() - day)
  const expired = authority.issue({ names: ["127.0.0.1"], from: before, until: yesterday })
  const server = authority.issue({ names: ["kafka.test", "127.0.0.1"] })

  const ports = yield* Effect.all({
    tls: freePort,
    mutual: freePort,
    expired: freePort,
    login: freePort,
    plainLogin: freePort,
    plain: freePort
  })
  const at = (port: number) => `127.0.0.1:${port}`
  const listeners = {
    TLS: ["SSL", ports.tls],
    MUTUAL: ["SSL", ports.mutual],
    EXPIRED: ["SSL", ports.expired],
    LOGIN: ["SASL_SSL", ports.login],
    PLAINLOGIN: ["SASL_PLAINTEXT", ports.plainLogin],
    PLAIN: ["PLAINTEXT", ports.plain]
  } as const
  const controller = yield* freePort
  const addresses = Object.entries(listeners).map(([name, [, port]]) => `${name}://${at(port)}`)
  const module = (name: string, options = "") => `org.apache.kafka.common.security.${name} required${options};`
  yield* Stack.start({
    folder: yield* freshFolder,
    cache: ".local/cache",
    ports: { postgres: 0, redis: 0, kafka: ports.tls },
    parts: ["kafka"],
    throwaway: true,
    tls: { ...server, authority: authority.certificate },
    kafkaProperties: {
      "controller.quorum.voters": `1@${at(controller)}`,
      "listeners": [...addresses, `CONTROLLER://${at(controller)}`].join(),
      "advertised.listeners": addresses.join(),
      "listener.security.protocol.map": [
        ...Object.entries(listeners).map(([name, [protocol]]) => `${name}:${protocol}`),
        "CONTROLLER:SSL"
      ].join(),
      "inter.broker.listener.name": "PLAIN",
      "listener.name.mutual.ssl.client.auth": "required",
      "listener.name.expired.ssl.keystore.type": "PEM",
      "listener.name.expired.ssl.keystore.certificate.chain": expired.certificate,
      "listener.name.expired.ssl.keystore.key": expired.key,
      "listener.name.login.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER",
      "listener.name.login.plain.sasl.jaas.config": module(
        "plain.PlainLoginModule",
        " user_plainuser=\"plain-password\""
      ),
      "listener.name.login.scram-sha-256.sasl.jaas.config": module("scram.ScramLoginModule"),
      "listener.name.login.scram-sha-512.sasl.jaas.config": module("scram.ScramLoginModule"),
      "listener.name.login.oauthbearer.sasl.jaas.config": module(
        "oauthbearer.OAuthBearerLoginModule",
        " unsecuredLoginStringClaim_sub=\"broker\""
      ),
      // the first session of a token; the others may last as long as the token
      "listener.name.login.oauthbearer.connections.max.reauth.ms": "3000",
      "listener.name.plainlogin.sasl.enabled.mechanisms": "SCRAM-SHA-512",
      "listener.name.plainlogin.scram-sha-512.sasl.jaas.config": module("scram.ScramLoginModule"),
      "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
      // without a certificate or a login: the other listeners
      "super.users": "User:ANONYMOUS;User:plainuser;User:CN=127.0.0.1;User:CN=kafka.test;User:CN=client;User:token-user"
    }
  }).pipe(Effect.provide(NodeContext.layer))

  const admin = { brokers: [at(ports.plain)], clientId: "admin" }
  const setPassword = passwordsAt(admin)
  const grant = (user: string, grants: ReadonlyArray<Grant>) =>
    Kafka.withAdmin(admin, (client) =>
      Kafka.attempt(() =>
        client.createAcls({
          acl: grants.flatMap((grant) =>
            grant.operations.map((operation): AclEntry => ({
              resourceType: types[grant.type],
              resourceName: grant.name,
              resourcePatternType: grant.prefixed === true ? prefixed : literal,
              principal: `User:${user}`,
              host: "*",
              operation: operations[operation],
              permissionType: allow
            }))
          )
        })
      ))

  yield* setPassword("scramuser", "SCRAM-SHA-256", "scram-password")
  yield* setPassword("scramuser", "SCRAM-SHA-512", "scram-password")

  const endpoint = yield* TokenEndpoint.make("client-secret", authority.issue({ names: ["127.0.0.1"] }))
  const ca = file("ca.pem", authority.certificate)
  const client = authority.issue({ names: ["client"] })
  return {
    /** Addresses by listener. */
    tls: at(ports.tls),
    mutual: at(ports.mutual),
    expired: at(ports.expired),
    login: at(ports.login),
    plainLogin: at(ports.plainLogin),
    plain: at(ports.plain),
    host: (address: string) => address.replace("127.0.0.1", "localhost"),
    admin,
    ca,
    strangerCa: file("stranger.pem", stranger.certificate),
    client: filesOf("client", client),
    expiredClient: filesOf("expired", expired),
    strangerClient: filesOf("stranger-client", stranger.issue({ names: ["client"] })),
    file,
    setPassword,
    grant,
    endpoint
  } as const
})

/** A broker with a listener for each way to connect, and ACLs. One for all tests of a file. */
export class SecuredKafka
  extends Context.Tag("test/SecuredKafka")<SecuredKafka, Effect.Effect.Success<typeof make>>()
{}

export const layer = Layer.scoped(SecuredKafka, make)

/** The environment with these variables. */
export const environment = (variables: Readonly<Record<string, string>>) =>
  Effect.withConfigProvider(ConfigProvider.fromMap(new Map(Object.entries(variables))))

/** The options of a client with these settings. */
export const optionsOf = (variables: Readonly<Record<string, string>>) =>
  Effect.map(readSettings(...kafkaClient), kafkaOptions).pipe(environment(variables))
