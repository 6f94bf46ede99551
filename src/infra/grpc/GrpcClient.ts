import * as Grpc from "@grpc/grpc-js"
import { Clock, Duration, Effect, Option, Redacted, Schema } from "effect"
import { isIP } from "node:net"
import type { SecureContextOptions } from "node:tls"
import { checkServerIdentity, createSecureContext } from "node:tls"
import { isLoopback } from "../runtime/Loopback.js"
import type { Address } from "../runtime/Setting.js"
import { showAddress } from "../runtime/Setting.js"
import * as Trace from "../runtime/Trace.js"
import * as GrpcDefinition from "./GrpcDefinition.js"
import * as GrpcErrorInfo from "./GrpcErrorInfo.js"
import * as GrpcHandshake from "./GrpcHandshake.js"
import type { Code } from "./GrpcRefusal.js"
import * as StreamReset from "./patches/StreamReset.js"

/** A call that ended with another status than OK. */
export class GrpcCallError extends Schema.TaggedError<GrpcCallError>()("GrpcCallError", {
  /** `host:port` of the server. */
  address: Schema.String,
  method: Schema.String,
  /** Name of the gRPC status code, e.g. `NOT_FOUND`. */
  code: Schema.declare((code): code is Code => typeof code === "string" && code !== "OK" && code in Grpc.status),
  /** Message of the status. */
  details: Schema.String,
  /** `reason` and `metadata` of the server's `google.rpc.ErrorInfo`. Without one: no reason. */
  reason: Schema.optional(Schema.String),
  metadata: Schema.optional(Schema.Record({ key: Schema.String, value: Schema.String }))
}) {
  override get message() {
    return `${this.method} at ${this.address}: ${this.code}: ${this.details}`
  }
}

export interface ClientOptions {
  readonly address: Address
  readonly protoFile: string
  /** Full name of the service in the proto file. */
  readonly service: string
  /** Longest duration of a call. Default: 5 seconds. */
  readonly deadline?: Duration.DurationInput
  /**
   * Whether to call remote hosts through the proxy of `grpc_proxy`, `https_proxy` or `http_proxy`, except those in `no_proxy`.
   * Default: false. Calls to the loopback interface never use a proxy.
   */
  readonly useProxy?: boolean
  /** Undefined: no TLS. */
  readonly tls?: ClientTls | undefined
  /** Sent with each call as `authorization: Bearer …`. */
  readonly token?: Redacted.Redacted | undefined
}

export interface ClientTls {
  /** Trusted authorities (default: the roots of Node), and our certificate. */
  readonly context: SecureContextOptions
  /** Name in the server's certificate. Default: the host of the address. */
  readonly serverName?: string | undefined
}

/** The client would send its token where others can read it. */
export class TokenUnprotected extends Schema.TaggedError<TokenUnprotected>()("TokenUnprotected", {
  address: Schema.String
}) {
  override get message() {
    return `the token is not sent to ${this.address} without TLS: set GRPC_TLS=true, or GRPC_TLS_CA`
  }
}

/**
 * Channel options and credentials with TLS. The name is also sent to the server. An address cannot be sent, and Node warns of
 * one: for a loopback address the name `localhost` is sent, and the certificate is compared with the address.
 */
const secured = ({ context, serverName }: ClientTls, host: string) => {
  const asLocalhost = serverName === undefined && isIP(host) !== 0 && isLoopback(host)
  const name = asLocalhost ? "localhost" : serverName
  return {
    credentials: Grpc.credentials.createFromSecureContext(
      createSecureContext(context),
      asLocalhost ? { checkServerIdentity: (_, certificate) => checkServerIdentity(host, certificate) } : {}
    ),
    options: name === undefined ? {} : { "grpc.ssl_target_name_override": name }
  }
}

/** Replaces the wildcard address by the loopback address: some systems cannot connect to a wildcard. */
const callable = ({ host, port }: Address): Address => ({
  host: host === "0.0.0.0" ? "127.0.0.1" : /^(::|0(:0){7})$/.test(host) ? "::1" : host,
  port
})

type Call = (
  request: unknown,
  metadata: Grpc.Metadata,
  options: Grpc.CallOptions,
  callback: (error: Grpc.ServiceError | null, response: any) => void
) => Grpc.ClientUnaryCall

/**
 * A client of one service for the life of the scope. It connects at its first call.
 *
 * `call(method, request)` gives the response, or fails with `GrpcCallError`. Interruption cancels the call. A client with a token
 * and without TLS fails with `TokenUnprotected`, unless it calls the loopback interface.
 * `GrpcDefinition.load` documents the shape of messages.
 */
export const make = Effect.fnUntraced(
  function*(
    { address: named, deadline = "5 seconds", protoFile, service, tls, token, useProxy = false }: ClientOptions
  ) {
    const target = callable(named)
    const address = showAddress(target)
    if (token !== undefined && tls === undefined && !isLoopback(target.host)) {
      return yield* new TokenUnprotected({ address })
    }
    const definition = GrpcDefinition.service(GrpcDefinition.load(protoFile), service)
    Grpc.setLogVerbosity(Grpc.logVerbosity.NONE)
    StreamReset.install()
    const client = yield* Effect.acquireRelease(
      Effect.sync(() => {
        const Client = Grpc.makeGenericClientConstructor(definition, service)
        const { credentials, options } = tls === undefined
          ? { credentials: Grpc.credentials.createInsecure(), options: {} }
          : secured(tls, target.host)
        return new Client(address, credentials, {
          ...options,
          "grpc.max_receive_message_length": GrpcDefinition.maxMessageBytes,
          "grpc.enable_channelz": 0,
          // a TXT look-up that finds nothing; a name server that does not answer would delay the exit by seconds
          "grpc.service_config_disable_resolution": 1,
          // many proxies refuse gRPC, and none can reach the loopback interface of this machine
          "grpc.enable_http_proxy": useProxy && !isLoopback(target.host) ? 1 : 0
        })
      }),
      (client) => Effect.sync(() => client.close())
    )

    const call = Effect.fnUntraced(function*(method: string, request: object) {
      const now = yield* Clock.currentTimeMillis
      const metadata = new Grpc.Metadata()
      if (token !== undefined) metadata.set("authorization", `Bearer ${Redacted.value(token)}`)
      Option.map(yield* Trace.current, (traceparent) => metadata.set("traceparent", traceparent))
      return yield* Effect.async<any, GrpcCallError>((resume) => {
        const start: Call = client[method]!.bind(client)
        const options = { deadline: now + Duration.toMillis(deadline) }
        const call = start(request, metadata, options, (error, response) => {
          if (error === null) return resume(Effect.succeed(response))
          const code = Grpc.status[error.code] as Code
          const info = Option.getOrUndefined(GrpcErrorInfo.read(error.metadata))
          const details = GrpcHandshake.explain(error.details, tls !== undefined)
          resume(new GrpcCallError({ address, method, code, details, reason: info?.reason, metadata: info?.metadata }))
        })
        return Effect.sync(() => call.cancel())
      })
    })

    return { call } as const
  }
)
