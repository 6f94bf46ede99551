import { readFileSync } from "node:fs"
import { isIP } from "node:net"
import type * as NodeTls from "node:tls"
import type * as Pg from "pg"
import { FileUnusable } from "../runtime/FileUnusable.js"
import * as TlsFiles from "../tls/Tls.js"
import { PostgresRefusal } from "./PostgresFault.js"
import type { Target, Tls } from "./PostgresUrl.js"
import type { Host } from "./PostgresUrlParts.js"

/** Reads files of PEM. They are read for each connection, so that a renewed certificate needs no restart. */
const files = ({ cert, crl, key, keyPassword, rootCert }: Tls) => {
  try {
    return {
      ...TlsFiles.loadNow({
        prefix: "",
        names: { ca: "sslrootcert", cert: "sslcert", key: "sslkey" },
        ca: rootCert === "system" ? undefined : rootCert,
        cert,
        key,
        passphrase: keyPassword
      }),
      ...(crl === undefined ? {} : { crl: readFileSync(crl) })
    }
  } catch (cause) {
    const problem = cause instanceof FileUnusable
      ? cause.message
      : `sslcrl names a file that cannot be read: ${(cause as Error).message}`
    throw new PostgresRefusal(`${problem} (DATABASE_URL)`)
  }
}

/** TLS options with the meaning of libpq: without `sslrootcert`, `require` and weaker modes encrypt and verify nothing. */
export const options = (tls: Tls, { address, host }: Host): NodeTls.ConnectionOptions => {
  const verifies = tls.mode === "verify-full" || tls.mode === "verify-ca" ||
    (tls.rootCert !== undefined && tls.mode === "require")
  return {
    rejectUnauthorized: verifies,
    ...(verifies && tls.mode !== "verify-full" ? { checkServerIdentity: () => undefined } : {}),
    // verifies the name, not the address of `hostaddr`
    ...(address === undefined ? {} : { host, ...(isIP(host) === 0 ? { servername: host } : {}) }),
    ...files(tls),
    ...(tls.minVersion === undefined ? {} : { minVersion: tls.minVersion as NodeTls.SecureVersion }),
    ...(tls.maxVersion === undefined ? {} : { maxVersion: tls.maxVersion as NodeTls.SecureVersion })
  }
}

/**
 * Implements `channel_binding=require`: the password goes only to a server that proves to own the certificate. Call it after
 * the client has added its listeners to the connection. `onBound` is called when the server offers channel binding.
 */
export const demandBinding = (connection: Pg.Connection, onBound: () => void) => {
  const refuse = () =>
    connection.emit("error", new PostgresRefusal("the server does not support channel binding, which the URL requires"))
  for (const event of ["authenticationCleartextPassword", "authenticationMD5Password", "authenticationSASL"]) {
    const [handler] = connection.listeners(event)
    if (handler === undefined) throw new Error(`pg does not listen to ${event}: it is not the version that this is for`)
    connection.removeAllListeners(event).on(event, (message: { readonly mechanisms?: ReadonlyArray<string> }) => {
      if (message.mechanisms?.includes("SCRAM-SHA-256-PLUS") !== true) return refuse()
      onBound()
      return handler(message)
    })
  }
}

/** Gives pg the password of the URL. Refuses when the URL has none. */
export const password = ({ password }: Target) => () => {
  if (password) return password
  throw new PostgresRefusal(
    "the server asks for a password, but the URL has none: set DATABASE_PASSWORD_FILE, DATABASE_PASSWORD_COMMAND or " +
      "DATABASE_PASSWORD"
  )
}
