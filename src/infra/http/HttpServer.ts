import type { HttpApp } from "@effect/platform"
import { HttpMiddleware } from "@effect/platform"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import type { Scope } from "effect"
import { Deferred, Effect, Schema } from "effect"
import * as Http from "node:http"
import * as Https from "node:https"
import { AddressInUse } from "../runtime/AddressInUse.js"
import type { FileUnusable } from "../runtime/FileUnusable.js"
import type { Address } from "../runtime/Setting.js"
import { showAddress } from "../runtime/Setting.js"
import * as TlsServer from "../tls/TlsServer.js"

/** The server cannot listen at the address (for another reason than a taken port), or stopped listening. */
export class HttpServerError extends Schema.TaggedError<HttpServerError>()("HttpServerError", {
  address: Schema.String,
  variable: Schema.String,
  cause: Schema.Defect
}) {
  override get message() {
    const reason = this.cause instanceof Error ? this.cause.message : String(this.cause)
    return `HTTP cannot listen at ${this.address}, which ${this.variable} names: ${reason}`
  }
}

export interface ServerOptions {
  /** Port 0 selects a free port. */
  readonly address: Address
  /** Environment variable that sets the address, for error messages. */
  readonly variable: string
  readonly app: HttpApp.Default
  /** Undefined: no TLS. */
  readonly tls?: TlsServer.TlsServerFiles | undefined
  /** Runs when a stop begins, before open requests get their time. */
  readonly stopping?: Effect.Effect<void> | undefined
  /** Called once with the port. */
  readonly listening?: (port: number) => Effect.Effect<unknown>
}

/**
 * Limits for small requests: the server closes connections that send slowly or send large headers. It keeps an idle
 * connection for longer than load balancers (60 seconds) and scrapes do: a server that closes first can cut off a
 * request that is already on its way.
 */
const limits: Http.ServerOptions = {
  headersTimeout: 5_000,
  requestTimeout: 10_000,
  keepAliveTimeout: 75_000,
  connectionsCheckingInterval: 1_000,
  maxHeaderSize: 8 * 1024
}

const stop = (server: Http.Server) =>
  Effect.async<void>((resume) => {
    server.close(() => resume(Effect.void))
  }).pipe(
    Effect.interruptible,
    Effect.timeoutOption("1 second"),
    Effect.ensuring(Effect.sync(() => server.closeAllConnections()))
  )

/** A server of one protocol that does not listen yet. With TLS its files are followed for the life of the scope. */
const create = (
  handler: Http.RequestListener,
  tls: TlsServer.TlsServerFiles | undefined
): Effect.Effect<Http.Server, FileUnusable, Scope.Scope> =>
  tls === undefined
    ? Effect.sync(() => Http.createServer(limits, handler))
    : TlsServer.withFiles<Http.Server>(tls, (context) => {
      const options = {
        ...limits,
        requestCert: tls.clientCa !== undefined,
        handshakeTimeout: TlsServer.handshakeTimeout
      }
      const server = Https.createServer({ ...options, ...context }, handler)
      return { server, renew: (context) => server.setSecureContext(context) }
    })

/** Serves `app` for ever. On interruption, open requests have one second to finish. Requests create no spans. */
export const serve = (
  { address, app, listening, stopping = Effect.void, tls, variable }: ServerOptions
): Effect.Effect<never, AddressInUse | HttpServerError | FileUnusable> =>
  Effect.gen(function*() {
    const failed = yield* Deferred.make<never, AddressInUse | HttpServerError>()
    const handler = yield* NodeHttpServer.makeHandler(app).pipe(
      HttpMiddleware.withTracerDisabledWhenEffect(() => true)
    )
    const server = yield* Effect.acquireRelease(
      Effect.map(create(handler, tls), (server) => {
        server.maxConnections = 256
        return server
      }),
      (server) => Effect.zipRight(stopping, stop(server))
    )
    const shown = showAddress(address)
    server.on("error", (cause: NodeJS.ErrnoException) =>
      Deferred.unsafeDone(
        failed,
        Effect.fail(
          cause.code === "EADDRINUSE"
            ? new AddressInUse({ address: shown, variable })
            : new HttpServerError({ address: shown, variable, cause })
        )
      ))
    yield* Effect.async<void>((resume) => {
      server.listen(address, () => resume(Effect.void))
    }).pipe(Effect.raceFirst(Deferred.await(failed)))
    const bound = server.address()
    const port = typeof bound === "object" && bound !== null ? bound.port : address.port
    yield* Effect.logInfo("HTTP listens").pipe(Effect.annotateLogs({ address: shown, port }))
    if (listening !== undefined) yield* listening(port)
    return yield* Deferred.await(failed)
  }).pipe(Effect.scoped)
