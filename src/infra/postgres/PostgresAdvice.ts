import * as Tls from "../tls/Tls.js"
import * as PostgresFault from "./PostgresFault.js"
import type { ConnectionOptions } from "./PostgresRoutes.js"

/** A server without TLS, and an `sslmode` that demands it. */
export const noTls =
  "the server does not support TLS, which sslmode in DATABASE_URL requires: turn ssl on at the server, " +
  "or set sslmode=disable on a network that you trust"

const ofTls: Readonly<Record<Tls.Fault, string>> = {
  authority: "set sslrootcert in DATABASE_URL to the file of its authority",
  validity: "renew it at the server, or set the clock of this host",
  name: "write a name of the certificate as host in DATABASE_URL; hostaddr sets the address beside it",
  plaintext: "check the port in DATABASE_URL",
  "client certificate": "check sslcert and sslkey in DATABASE_URL, and ssl_ca_file at the server"
}

const adviceOf = (error: Error, { password }: ConnectionOptions) => {
  switch (PostgresFault.stateOf(error)) {
    case "28P01":
      return password === undefined
        ? "check user and password in DATABASE_URL"
        : "check the user in DATABASE_URL, and the password of DATABASE_PASSWORD, DATABASE_PASSWORD_FILE, " +
          "DATABASE_PASSWORD_COMMAND or DATABASE_URL_FILE"
    case "28000":
      return "check pg_hba.conf of the server for this user: it may demand TLS (sslmode in DATABASE_URL), " +
        "or a client certificate (sslcert and sslkey)"
  }
  const fault = Tls.faultOf(error)
  return fault && ofTls[fault]
}

/** Adds to the error of a connection what an operator can change. Returns the same error. */
export const advise = (error: Error, options: ConnectionOptions): Error => {
  const advice = adviceOf(error, options)
  return advice === undefined ? error : Object.assign(error, { advice } satisfies PostgresFault.Annotations)
}
