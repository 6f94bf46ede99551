import { Effect, Either, Redacted } from "effect"
import type { Mechanism } from "kafkajs"
import { createRequire } from "node:module"
import type { KafkaSasl } from "./KafkaSecurity.js"

interface Asked<A> {
  readonly request: unknown
  readonly response?: { readonly decode: (data: Buffer) => unknown; readonly parse: (data: unknown) => A }
}

type Ask = <A>(asked: Asked<A>) => Promise<A>

interface Login {
  readonly authenticate: () => Promise<void>
}

interface Connection {
  readonly saslAuthenticate: Ask
}

type Account = { readonly username: string; readonly password: string }

const require = createRequire(import.meta.url)
const load = (file: string) => require(`kafkajs/src/${file}`) as unknown
const withPassword = {
  "PLAIN": load("broker/saslAuthenticator/plain"),
  "SCRAM-SHA-256": load("broker/saslAuthenticator/scram256"),
  "SCRAM-SHA-512": load("broker/saslAuthenticator/scram512")
} as Readonly<Record<string, (account: Account) => (connection: Connection) => Login>>
const { request: tokenRequest } = load("protocol/sasl/oauthBearer") as {
  readonly request: (options: object, token: { readonly value: string }) => Promise<unknown>
}
const Encoder = load("protocol/encoder") as new() => { readonly writeBytes: (data: Buffer) => { buffer: Buffer } }
const Decoder = load("protocol/decoder") as new(data: Buffer) => { readonly readBytes: () => Buffer | null }

const run = async <A>(effect: Effect.Effect<A, Error>) => {
  const result = await Effect.runPromise(Effect.either(effect))
  if (Either.isLeft(result)) throw result.left
  return result.right
}

/** Logs in by password. kafkajs calls every failure a refusal, a broken connection too: here the first failure stays. */
const byPassword = async (
  { mechanism, password, username }: Exclude<KafkaSasl, { mechanism: "OAUTHBEARER" }>,
  connection: Connection
) => {
  let failure: unknown
  const account = { username, password: Redacted.value(await run(password.get)) }
  const saslAuthenticate: Ask = (asked) =>
    connection.saslAuthenticate(asked).catch((error: unknown) => {
      failure = error
      throw error
    })
  await withPassword[mechanism]!(account)({ ...connection, saslAuthenticate }).authenticate().catch(
    (error: unknown) => {
      throw failure ?? error
    }
  )
}

const answerOf = {
  decode: (data: Buffer) => new Decoder(data).readBytes(),
  parse: (data: unknown) => data as Buffer | null
}

/**
 * Logs in by token. The broker refuses a token with an answer, and says why after a reply to it (RFC 7628, 3.2.3). kafkajs
 * takes the first answer for a success.
 */
const byToken = async (
  { token }: Extract<KafkaSasl, { mechanism: "OAUTHBEARER" }>,
  { saslAuthenticate }: Connection
) => {
  const value = Redacted.value(await run(token.get))
  const refusal = await saslAuthenticate({ request: await tokenRequest({}, { value }), response: answerOf })
  if (refusal === null || refusal.length === 0) return
  await run(token.forget)
  await saslAuthenticate({
    request: { encode: () => Promise.resolve(new Encoder().writeBytes(Buffer.from([1])).buffer) },
    response: answerOf
  })
}

/** The login of each connection, for kafkajs. */
export const options = (sasl: KafkaSasl): Mechanism => ({
  mechanism: sasl.mechanism,
  authenticationProvider: (connection) => ({
    authenticate: () =>
      sasl.mechanism === "OAUTHBEARER"
        ? byToken(sasl, connection as Connection)
        : byPassword(sasl, connection as Connection)
  })
})
