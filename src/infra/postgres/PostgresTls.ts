import { readFileSync } from "node:fs"
import { isIP } from "node:net"
import type * as NodeTls from "node:tls"
import type * as Pg from "pg"
import { PostgresRefusal } from "./PostgresFault.js"
import type { Target, Tls } from "./PostgresUrl.js"
import type { Host } from "./PostgresUrlParts.js"

const file = (parameter: string, path: string | undefined) => {
  if (path === undefined) return undefined
  try {
    return readFileSync(path)
  } catch (cause) {
    throw new PostgresRefusal(`${parameter} cannot be read: ${(cause as Error).message}`)
  }
}

/** As libpq has it: without a file of certificates, `require` and weaker encrypt and trust anybody. */
export const options = (tls: Tls, { address, host }: Host): NodeTls.ConnectionOptions => {
  const verifies = tls.mode === "verify-full" || tls.mode === "verify-ca" ||
    (tls.rootCert !== undefined && tls.mode === "require")
  const [cert, key, crl] = [file("sslcert", tls.cert), file("sslkey", tls.key), file("sslcrl", tls.crl)]
  const ca = tls.rootCert === "system" ? undefined : file("sslrootcert", tls.rootCert)
  return {
    rejectUnauthorized: verifies,
    ...(verifies && tls.mode !== "verify-full" ? { checkServerIdentity: () => undefined } : {}),
    // the name to verify, and not the address that stands for it
    ...(address === undefined ? {} : { host, ...(isIP(host) === 0 ? { servername: host } : {}) }),
    ...(ca === undefined ? {} : { ca }),
    ...(crl === undefined ? {} : { crl }),
    ...(cert === undefined ? {} : { cert }),
    ...(key === undefined ? {} : { key }),
    ...(tls.keyPassword === undefined ? {} : { passphrase: tls.keyPassword }),
    ...(tls.minVersion === undefined ? {} : { minVersion: tls.minVersion as NodeTls.SecureVersion }),
    ...(tls.maxVersion === undefined ? {} : { maxVersion: tls.maxVersion as NodeTls.SecureVersion })
  }
}

/**
 * `channel_binding=require`: a password goes only to who has proved to hold the certificate. Call it when the client listens
 * to the connection; `onBound` is told when the server does it.
 */
export const demandBinding = (connection: Pg.Connection, onBound: () => void) => {
  const refuse = () =>
    connection.emit("error", new PostgresRefusal("the server does not do channel_binding, which the URL requires"))
  for (const event of ["authenticationCleartextPassword", "authenticationMD5Password", "authenticationSASL"]) {
    const [handler] = connection.listeners(event)
    connection.removeAllListeners(event).on(event, (message: { readonly mechanisms?: ReadonlyArray<string> }) => {
      if (message.mechanisms?.includes("SCRAM-SHA-256-PLUS") !== true) return refuse()
      onBound()
      return handler!(message)
    })
  }
}

/** What is told to a server that asks for a password. */
export const password = ({ password }: Target) => () => {
  if (password) return password
  throw new PostgresRefusal("the server asks for a password, and the URL has none")
}
