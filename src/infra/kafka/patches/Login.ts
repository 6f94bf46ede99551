import type { Load, Patch } from "./Patch.js"

interface Answer {
  readonly enabledMechanisms: ReadonlyArray<string>
}

interface Handshake {
  readonly response: { readonly decode: (data: Buffer) => Promise<Answer> }
}

interface Authenticator {
  readonly connection: {
    readonly broker: string
    readonly sasl: { readonly mechanism: string }
    reauthenticationThreshold: number
  }
  /** Milliseconds, as a number or text. 0: the login does not end. */
  readonly sessionLifetime: unknown
  saslHandshake: (asked: object) => Handshake
  authenticate: (this: Authenticator) => Promise<void>
}

/** Milliseconds before the end of a session at which kafkajs logs in again. */
const threshold = 10_000

const check = (mechanism: string) =>
  mechanism === "OAUTHBEARER"
    ? "check KAFKA_OAUTH_SCOPE, and the issuer and audience that the broker expects"
    : "check KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD"

/** Why the broker refuses; undefined for another failure, e.g. of the connection. */
const refusal = (error: unknown, mechanism: string, offered: ReadonlyArray<string>) => {
  const { message, name, type } = error as { readonly name?: string; readonly type?: string; readonly message: string }
  switch (type) {
    case "UNSUPPORTED_SASL_MECHANISM":
      return `KAFKA_SASL_MECHANISM is ${mechanism}, and this port offers ${offered.join(", ") || "none"}`
    case "ILLEGAL_SASL_STATE":
      return `this port takes no login: use a port with SASL, or unset KAFKA_SASL_MECHANISM`
    case "SASL_AUTHENTICATION_FAILED":
      return `${message} (${mechanism}): ${check(mechanism)}`
    default:
      return name === "KafkaJSSASLAuthenticationError" ? message : undefined
  }
}

/** Whether the reason of a failure is a login that a server refused. Waiting does not help. */
export const isRefusal = (why: string) => why.includes(" refuses the login: ")

/**
 * - Failures of a login name the broker, the setting, and the mechanisms that the broker offers.
 * - A session is renewed before its last fifth. kafkajs renews it 10 s before its end; it renews a shorter one at each
 *   request, which brokers refuse.
 */
const install = (load: Load) => {
  const { prototype } = load("kafkajs/src/broker/saslAuthenticator") as { readonly prototype: Authenticator }
  const authenticate = prototype.authenticate
  prototype.authenticate = async function() {
    const { connection, saslHandshake } = this
    let offered: ReadonlyArray<string> = []
    this.saslHandshake = (asked) => {
      const handshake = saslHandshake(asked)
      const decode = async (data: Buffer) => {
        const answer = await handshake.response.decode(data)
        offered = answer.enabledMechanisms
        return answer
      }
      return { ...handshake, response: { ...handshake.response, decode } }
    }
    try {
      await authenticate.call(this)
    } catch (error) {
      const why = refusal(error, connection.sasl.mechanism, offered)
      if (why === undefined) throw error
      throw Object.assign(new Error(`${connection.broker} refuses the login: ${why}`), { retriable: false })
    }
    connection.reauthenticationThreshold = Math.min(threshold, Math.floor(Number(this.sessionLifetime) / 5))
  }
}

export const patch: Patch = {
  module: "kafkajs/src/broker/saslAuthenticator",
  members: { authenticate: 0 },
  install
}
