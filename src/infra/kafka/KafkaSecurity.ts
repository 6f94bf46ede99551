import type { Secret } from "../runtime/Secret.js"
import type { TlsFiles } from "../tls/Tls.js"
import type { OAuthToken } from "./OAuthToken.js"

/** TLS to the brokers. The files are read again for each connection. */
export interface KafkaTls {
  readonly files: TlsFiles
  /** The name that each broker's certificate must have. Default: the host of the broker. */
  readonly serverName?: string | undefined
}

export const passwordMechanisms = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] as const

/** How a connection logs in (SASL). The password is read again for each connection, and the token is renewed. */
export type KafkaSasl =
  | {
    readonly mechanism: typeof passwordMechanisms[number]
    readonly username: string
    readonly password: Secret
  }
  | { readonly mechanism: "OAUTHBEARER"; readonly token: OAuthToken }

/** Encryption and authentication of the connections to brokers. */
export interface KafkaSecurity {
  readonly tls?: KafkaTls | undefined
  readonly sasl?: KafkaSasl | undefined
}
