import * as Grpc from "@grpc/grpc-js"
import { Clock, Duration, Effect, Option, Schema } from "effect"
import type { Address } from "../runtime/Setting.js"
import { showAddress } from "../runtime/Setting.js"
import * as Trace from "../runtime/Trace.js"
import type { Code } from "./GrpcCall.js"
import * as GrpcDefinition from "./GrpcDefinition.js"
import * as StreamReset from "./patches/StreamReset.js"

/** A call was not answered with OK. */
export class GrpcCallError extends Schema.TaggedError<GrpcCallError>()("GrpcCallError", {
  /** Who was called. */
  address: Schema.String,
  method: Schema.String,
  /** The code by its name in gRPC, e.g. `NOT_FOUND`. */
  code: Schema.declare((code): code is Code => typeof code === "string" && code !== "OK" && code in Grpc.status),
  /** What the server says of it. */
  details: Schema.String
}) {
  override get message() {
    return `${this.method} at ${this.address}: ${this.code}: ${this.details}`
  }
}

export interface ClientOptions {
  readonly address: Address
  readonly protoFile: string
  /** Full name of the service in the file. */
  readonly service: string
  /** Default: 5 seconds. */
  readonly deadline?: Duration.DurationInput
  /**
   * Whether a host elsewhere may be called through the proxy that `grpc_proxy`, `https_proxy` or `http_proxy` names, unless
   * `no_proxy` has the host. Default: no. This machine is never called through one.
   */
  readonly useProxy?: boolean
}

const loopback = /^(localhost|.*\.localhost|127(\.\d{1,3}){3}|::1|::ffff:127(\.\d{1,3}){3})$/i

/** Where a server that listens at all addresses of this machine can be called: what is sent to no address arrives nowhere on some systems. */
const callable = ({ host, port }: Address): Address => ({
  host: host === "0.0.0.0" ? "127.0.0.1" : /^(::|0(:0){7})$/.test(host) ? "::1" : host,
  port
})

/** What the library says of a failed connection ends in a note that is mostly empty. */
const said = (details: string) => details.replace(/\s*Resolution note:\s*$/, "")

type Call = (
  request: unknown,
  metadata: Grpc.Metadata,
  options: Grpc.CallOptions,
  callback: (error: Grpc.ServiceError | null, response: any) => void
) => Grpc.ClientUnaryCall

/**
 * A client of one service for the life of the scope, which connects at its first call.
 *
 * Interruption cancels the call. Messages are as `GrpcDefinition.load` says.
 */
export const make = Effect.fnUntraced(
  function*({ address: named, deadline = "5 seconds", protoFile, service, useProxy = false }: ClientOptions) {
    const target = callable(named)
    const address = showAddress(target)
    const definition = GrpcDefinition.service(GrpcDefinition.load(protoFile), service)
    Grpc.setLogVerbosity(Grpc.logVerbosity.NONE)
    StreamReset.install()
    const client = yield* Effect.acquireRelease(
      Effect.sync(() => {
        const Client = Grpc.makeGenericClientConstructor(definition, service)
        return new Client(address, Grpc.credentials.createInsecure(), {
          "grpc.max_receive_message_length": GrpcDefinition.maxMessageBytes,
          "grpc.enable_channelz": 0,
          // a record of the name server that nobody writes for us: one that does not answer would hold up the end by seconds
          "grpc.service_config_disable_resolution": 1,
          // many a machine names a proxy for what leaves it, and a proxy refuses gRPC, or knows no way back to this machine
          "grpc.enable_http_proxy": useProxy && !loopback.test(target.host) ? 1 : 0
        })
      }),
      (client) => Effect.sync(() => client.close())
    )

    const call = Effect.fnUntraced(function*(method: string, request: object) {
      const now = yield* Clock.currentTimeMillis
      const metadata = new Grpc.Metadata()
      Option.map(yield* Trace.current, (traceparent) => metadata.set("traceparent", traceparent))
      return yield* Effect.async<any, GrpcCallError>((resume) => {
        const start: Call = client[method]!.bind(client)
        const options = { deadline: now + Duration.toMillis(deadline) }
        const call = start(request, metadata, options, (error, response) => {
          if (error === null) return resume(Effect.succeed(response))
          const code = Grpc.status[error.code] as Code
          resume(Effect.fail(new GrpcCallError({ address, method, code, details: said(error.details) })))
        })
        return Effect.sync(() => call.cancel())
      })
    })

    return { call } as const
  }
)
