import type { Scope } from "effect"
import { Effect } from "effect"
import { constants } from "node:crypto"
import type { SecureContextOptions } from "node:tls"
import type { FileUnusable } from "../runtime/FileUnusable.js"
import * as Followed from "../runtime/Followed.js"
import * as Tls from "./Tls.js"

/** Paths of PEM files. The variables are `<prefix>_CERT`, `<prefix>_KEY` and `<prefix>_CLIENT_CA`. */
export interface TlsServerFiles {
  readonly prefix: string
  readonly cert: string
  readonly key: string
  /** Authorities of client certificates. With them, a client without such a certificate is refused: mutual TLS. */
  readonly clientCa?: string | undefined
  /** Pause between two looks for replaced files. Default: 5 seconds. */
  readonly every?: Parameters<typeof Effect.sleep>[0]
}

/**
 * Longest handshake in milliseconds, from the connection to its end. It bounds connections that say nothing and those that send
 * a byte a second.
 */
export const handshakeTimeout = 5_000

/**
 * TLS 1.2 or 1.3. A client cannot begin another handshake on its connection (renegotiation): each costs the server a signature.
 * HTTP/2 forbids it anyway, so this is for HTTPS.
 */
const policy: SecureContextOptions = {
  minVersion: "TLSv1.2",
  secureOptions: constants.SSL_OP_NO_RENEGOTIATION
}

/** Reads the files. */
export const load = (
  { cert, clientCa, key, prefix }: TlsServerFiles
): Effect.Effect<SecureContextOptions, FileUnusable> =>
  Effect.map(
    Effect.all([
      Tls.load({ prefix, cert, key }),
      Tls.load({ prefix: `${prefix}_CLIENT`, ca: clientCa })
    ]),
    ([own, clients]) => ({ ...policy, ...own, ...clients })
  )

const same = (one: SecureContextOptions, other: SecureContextOptions) =>
  (["ca", "cert", "key"] as const).every((name) => String(one[name]) === String(other[name]))

/**
 * Loads the files, passes their content to `start`, and follows them for the life of the scope: `renew` gets each replacement.
 * Connections that exist go on with the certificate of their handshake.
 */
export const withFiles = <A>(
  files: TlsServerFiles,
  start: (
    context: SecureContextOptions
  ) => { readonly server: A; readonly renew: (context: SecureContextOptions) => void }
): Effect.Effect<A, FileUnusable, Scope.Scope> =>
  Effect.gen(function*() {
    const first = yield* load(files)
    const { renew, server } = start(first)
    yield* Effect.forkScoped(Followed.follow({
      what: `the certificate of ${files.prefix}_CERT`,
      read: load(files),
      same,
      first,
      changed: renew,
      every: files.every ?? "5 seconds"
    }))
    return server
  })
