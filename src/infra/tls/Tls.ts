import { Effect } from "effect"
import { readFileSync } from "node:fs"
import type { SecureContextOptions } from "node:tls"
import { createSecureContext } from "node:tls"
import { FileUnusable } from "../runtime/FileUnusable.js"

/** Paths of PEM files, with the variables that name them, for error messages. */
export interface TlsFiles {
  /** The variables are `<prefix>_CA`, `<prefix>_CERT` and `<prefix>_KEY`; or `names`, where others name the files. */
  readonly prefix: string
  readonly names?: { readonly ca: string; readonly cert: string; readonly key: string }
  /** Certificates of the authorities to trust. Default: the root certificates of Node. */
  readonly ca?: string | undefined
  /** Own certificate with its chain, and its key: both or neither. */
  readonly cert?: string | undefined
  readonly key?: string | undefined
  /** Of the key, when it is encrypted. */
  readonly passphrase?: string | undefined
}

const read = (variable: string, path: string | undefined) => {
  if (path === undefined) return undefined
  try {
    return readFileSync(path)
  } catch (cause) {
    throw new FileUnusable({ variable, problem: `names a file that cannot be read: ${(cause as Error).message}` })
  }
}

/** Throws when the options are not a certificate, a key, and a pair of both. OpenSSL's words are of no use to a reader. */
const check = (options: SecureContextOptions, variable: string, problem: string) => {
  try {
    createSecureContext(options)
  } catch {
    throw new FileUnusable({ variable, problem })
  }
}

/**
 * Reads the files, for the options of a TLS client or server. Files are read at each call, so that their replacement counts
 * for the next connection.
 */
export const load = (files: TlsFiles): Effect.Effect<SecureContextOptions, FileUnusable> =>
  Effect.try({
    try: () => loadNow(files),
    catch: (cause) => {
      if (cause instanceof FileUnusable) return cause
      throw cause
    }
  })

/** `load` for callers that are no effects. Throws `FileUnusable`. */
export const loadNow = ({ ca, cert, key, names, passphrase, prefix }: TlsFiles): SecureContextOptions => {
  const variable = names ?? { ca: `${prefix}_CA`, cert: `${prefix}_CERT`, key: `${prefix}_KEY` }
  const trusted = read(variable.ca, ca)
  const own = { cert: read(variable.cert, cert), key: read(variable.key, key) }
  const secret = passphrase === undefined ? {} : { passphrase }
  if (trusted !== undefined) {
    const problem = `names ${ca}, which has no certificate in PEM`
    check({ ca: trusted }, variable.ca, problem)
    if (!trusted.includes("-----BEGIN ")) throw new FileUnusable({ variable: variable.ca, problem })
  }
  if (own.cert !== undefined) {
    check({ cert: own.cert }, variable.cert, `names ${cert}, which has no certificate in PEM`)
  }
  if (own.key !== undefined) {
    check({ key: own.key, ...secret }, variable.key, `names ${key}, which has no private key in PEM`)
  }
  if (own.cert !== undefined && own.key !== undefined) {
    check(
      { cert: own.cert, key: own.key, ...secret },
      variable.key,
      `names ${key}, which is not the key of the certificate in ${cert}`
    )
  }
  return {
    ...(trusted === undefined ? {} : { ca: trusted }),
    ...(own.cert === undefined ? {} : { cert: own.cert }),
    ...(own.key === undefined ? {} : { key: own.key, ...secret })
  }
}

const words: Readonly<Record<string, string>> = {
  SELF_SIGNED_CERT_IN_CHAIN: "an authority that is not trusted signed the server's certificate",
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: "an authority that is not trusted signed the server's certificate",
  UNABLE_TO_GET_ISSUER_CERT: "an authority that is not trusted signed the server's certificate",
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: "an authority that is not trusted signed the server's certificate",
  DEPTH_ZERO_SELF_SIGNED_CERT: "the server's certificate is self-signed, and not trusted",
  CERT_SIGNATURE_FAILURE: "an authority that is not trusted signed the server's certificate",
  CERT_HAS_EXPIRED: "the server's certificate has expired",
  CERT_NOT_YET_VALID: "the server's certificate is not valid yet",
  CERT_REVOKED: "the server's certificate is revoked",
  ERR_TLS_CERT_ALTNAME_INVALID: "the server's certificate is for another name",
  ERR_SSL_WRONG_VERSION_NUMBER: "the server does not speak TLS at this port",
  ERR_SSL_PACKET_LENGTH_TOO_LONG: "the server does not speak TLS at this port",
  ERR_SSL_SSLV3_ALERT_HANDSHAKE_FAILURE: "the server refused the handshake: it may demand a client certificate",
  ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED: "the server demands a client certificate",
  ERR_SSL_TLSV1_ALERT_UNKNOWN_CA: "the server does not trust the authority of our client certificate",
  // an authority of the same name with another key
  ERR_SSL_TLSV1_ALERT_DECRYPT_ERROR: "the server does not trust the authority of our client certificate",
  ERR_SSL_SSLV3_ALERT_BAD_CERTIFICATE: "the server refused our client certificate",
  ERR_SSL_SSLV3_ALERT_CERTIFICATE_UNKNOWN: "the server refused our client certificate",
  ERR_SSL_SSLV3_ALERT_CERTIFICATE_EXPIRED: "our client certificate has expired"
}

/** The code of an error as OpenSSL 3.0 has it: later versions (in Node from 22 on) begin some alerts with other words. */
const codeOf = (error: unknown) => {
  const { code } = error as { readonly code?: unknown }
  return typeof code === "string" ? code.replace("ERR_SSL_SSL/TLS_ALERT_", "ERR_SSL_SSLV3_ALERT_") : undefined
}

/** What is wrong in a failed handshake: the subject of the advice to an operator. */
export type Fault = "authority" | "validity" | "name" | "plaintext" | "client certificate"

/** The fault of a failed handshake; undefined for errors of another kind. */
export const faultOf = (error: unknown): Fault | undefined => {
  const code = codeOf(error) ?? ""
  if (!Object.hasOwn(words, code)) return undefined
  if (code === "ERR_TLS_CERT_ALTNAME_INVALID") return "name"
  if (/^CERT_(HAS_EXPIRED|NOT_YET_VALID|REVOKED)$/.test(code)) return "validity"
  if (/^ERR_SSL_(WRONG_VERSION|PACKET_LENGTH)/.test(code)) return "plaintext"
  return code.startsWith("ERR_SSL_") ? "client certificate" : "authority"
}

/** The meaning of a failed handshake in plain words, with Node's code; undefined for errors of another kind. */
export const explain = (error: unknown): string | undefined => {
  const code = codeOf(error)
  const { cert, host } = error as {
    readonly host?: string
    readonly cert?: { readonly subjectaltname?: string; readonly subject?: { readonly CN?: string } }
  }
  const meaning = code === undefined ? undefined : words[code]
  if (meaning === undefined) return undefined
  const names = cert?.subjectaltname ?? cert?.subject?.CN
  return code === "ERR_TLS_CERT_ALTNAME_INVALID" && host !== undefined
    ? `${meaning} than ${host}${names === undefined ? "" : ` (${names})`} (${code})`
    : `${meaning} (${code})`
}
