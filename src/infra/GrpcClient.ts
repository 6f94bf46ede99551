import * as Grpc from "@grpc/grpc-js"
import { Clock, Duration, Effect, Option, Schema } from "effect"
import type { Code } from "./GrpcCall.js"
import * as GrpcDefinition from "./GrpcDefinition.js"
import * as Trace from "./Trace.js"

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
  /** `host:port`. */
  readonly address: string
  readonly protoFile: string
  /** Full name of the service in the file. */
  readonly service: string
  /** Default: 5 seconds. */
  readonly deadline?: Duration.DurationInput
}

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
  function*({ address, deadline = "5 seconds", protoFile, service }: ClientOptions) {
    const definition = GrpcDefinition.service(GrpcDefinition.load(protoFile), service)
    Grpc.setLogVerbosity(Grpc.logVerbosity.NONE)
    const client = yield* Effect.acquireRelease(
      Effect.sync(() => {
        const Client = Grpc.makeGenericClientConstructor(definition, service)
        return new Client(address, Grpc.credentials.createInsecure(), {
          "grpc.max_receive_message_length": GrpcDefinition.maxMessageBytes,
          "grpc.enable_channelz": 0
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
          resume(Effect.fail(new GrpcCallError({ address, method, code, details: error.details })))
        })
        // not while the session reads, as where an answer has woken who interrupts: Node 20 may abort on a stream that is
        // closed then (`CheckAllocatedSize`; nodejs/node#64166 mends later ones)
        return Effect.sync(() => setImmediate(() => call.cancel()))
      })
    })

    return { call } as const
  }
)
