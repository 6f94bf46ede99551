import type { Duration } from "effect"
import { Effect } from "effect"
import type { ConfigOf } from "../Config.js"
import * as PaymentsApi from "../grpc/PaymentsApi.js"
import { showAddress } from "../infra/runtime/Setting.js"
import * as Http from "../ops/Http.js"
import * as Listening from "./Listening.js"
import { supervised } from "./Supervised.js"

/** Failures of a server that waiting does not end: the process cannot listen on its address, or a file of it is unusable. */
const final = [
  "AddressInUse",
  "GrpcServerError",
  "HttpServerError",
  "FileUnusable"
] as const

const isFinal = <E extends { readonly _tag: string }>(
  error: E
): error is Extract<E, { readonly _tag: (typeof final)[number] }> =>
  (final as ReadonlyArray<string>).includes(error._tag)

/** The operations server. It answers while the roles still wait for their dependencies. */
export const http = (
  config: Listening.HttpConfig & ConfigOf<"otelServiceName">,
  console: Http.HttpOptions["console"]
) =>
  supervised(
    "http-server",
    () =>
      Http.serve({
        address: config.httpAddr,
        tls: Listening.httpTls(config),
        serviceName: config.otelServiceName,
        console
      }),
    isFinal
  )

/** The gRPC server. `drainLimit`: the time that a stop waits for running calls. */
export const grpc = (config: Listening.GrpcConfig, drainLimit: Duration.Duration) =>
  supervised(
    "grpc-server",
    () =>
      Effect.flatMap(Listening.access(config), (access) =>
        PaymentsApi.serve({
          address: showAddress(config.grpcAddr),
          tls: Listening.grpcTls(config),
          access,
          drainLimit
        })).pipe(Effect.scoped),
    isFinal
  )
