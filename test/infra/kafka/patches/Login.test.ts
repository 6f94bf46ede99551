import { describe } from "@effect/vitest"
import { patch } from "../../../../src/infra/kafka/patches/Login.js"
import type { Load } from "../../../../src/infra/kafka/patches/Patch.js"
import { contract, logger } from "./Library.js"

interface Protocol {
  readonly request: { readonly apiName: string }
  readonly response: { readonly decode: (data: Buffer) => Promise<unknown>; readonly parse: (data: unknown) => unknown }
}

/** A connection whose broker gives these answers to the handshake and to the login. */
const connection = (handshake: Buffer, answer: () => object) => ({
  broker: "kafka-1:9093",
  host: "kafka-1",
  port: 9093,
  sasl: { mechanism: "PLAIN", username: "payments", password: "secret" },
  reauthenticationThreshold: 10_000,
  send: async ({ request, response }: Protocol) =>
    request.apiName === "SaslHandshake"
      ? response.parse(await response.decode(handshake))
      : answer()
})

const versions = { 17: { minVersion: 0, maxVersion: 1 }, 36: { minVersion: 0, maxVersion: 1 } }

const login = async (load: Load, link: ReturnType<typeof connection>) => {
  const Authenticator = load("kafkajs/src/broker/saslAuthenticator") as new(
    ...parts: ReadonlyArray<unknown>
  ) => { readonly authenticate: () => Promise<void> }
  await new Authenticator(link, logger, versions, true).authenticate()
}

const text = (value: string) => Buffer.concat([Buffer.from([0, value.length]), Buffer.from(value)])
/** An error code and the offered mechanisms. */
const offers = (error: number, mechanism: string) =>
  Buffer.concat([Buffer.from([0, error, 0, 0, 0, 1]), text(mechanism)])
const nothing = Buffer.from([0, 0, 0, 0])

describe("Login", () => {
  contract(
    "a session shorter than 10 s is renewed at each request",
    patch,
    { stock: 10_000, patched: 600 },
    async (load) => {
      const link = connection(offers(0, "PLAIN"), () => ({ authBytes: nothing, sessionLifetimeMs: "3004" }))
      await login(load, link)
      return link.reauthenticationThreshold
    }
  )

  contract(
    "a refused mechanism comes without broker, setting and choice",
    patch,
    {
      stock: "The broker does not support the requested SASL mechanism",
      patched: "kafka-1:9093 refuses the login: KAFKA_SASL_MECHANISM is PLAIN, and this port offers SCRAM-SHA-512"
    },
    (load) =>
      login(load, connection(offers(33, "SCRAM-SHA-512"), () => ({}))).then(
        () => "",
        (error: Error) => error.message
      )
  )
})
