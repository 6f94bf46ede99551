import * as Grpc from "@grpc/grpc-js"
import { Effect } from "effect"
import type { SecureContextOptions } from "node:tls"
import * as TlsServer from "../tls/TlsServer.js"

/**
 * Credentials of a server whose certificate can be replaced. The provider of grpc-js 1.14 that watches files refuses all new
 * connections while one of two files is replaced and the other is not.
 */
class RenewableCredentials extends Grpc.ServerCredentials {
  renew(context: SecureContextOptions) {
    this.updateSecureContextOptions(context)
  }

  override _equals(other: Grpc.ServerCredentials): boolean {
    return this === other
  }
}

/** The credentials of a server with these files, followed for the life of the scope; without files it does not use TLS. */
export const make = (files: TlsServer.TlsServerFiles | undefined) =>
  files === undefined
    ? Effect.succeed(Grpc.ServerCredentials.createInsecure())
    : TlsServer.withFiles<Grpc.ServerCredentials>(files, (context) => {
      const server = new RenewableCredentials(
        { requestCert: files.clientCa !== undefined, handshakeTimeout: TlsServer.handshakeTimeout },
        context
      )
      return { server, renew: (context) => server.renew(context) }
    })
