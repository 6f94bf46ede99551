import * as Grpc from "@grpc/grpc-js"
import Protobuf from "protobufjs"

/** Why a call was refused, for programs: `google.rpc.ErrorInfo`. */
export interface ErrorInfo {
  /** A constant in upper case, unique in its domain. */
  readonly reason: string
  /** The package of the service. */
  readonly domain: string
  readonly metadata: Readonly<Record<string, string>>
}

/** Source: https://github.com/googleapis/googleapis/blob/master/google/rpc/error_details.proto and status.proto beside it. */
const { root } = Protobuf.parse(
  `
  syntax = "proto3";
  message Any { string type_url = 1; bytes value = 2; }
  message Status { int32 code = 1; string message = 2; repeated Any details = 3; }
  message ErrorInfo { string reason = 1; string domain = 2; map<string, string> metadata = 3; }
  message Duration { int64 seconds = 1; int32 nanos = 2; }
  message RetryInfo { Duration retry_delay = 1; }
  `,
  { keepCase: true }
)
const [Status, Info, Retry] = [root.lookupType("Status"), root.lookupType("ErrorInfo"), root.lookupType("RetryInfo")]

/** Trailer with a `google.rpc.Status`: https://grpc.io/docs/guides/error/#richer-error-model. */
const trailer = "grpc-status-details-bin"
const typeUrl = "type.googleapis.com/google.rpc.ErrorInfo"
const retryUrl = "type.googleapis.com/google.rpc.RetryInfo"
/** Trailer with the pause of clients that retry by themselves: https://github.com/grpc/proposal/blob/master/A6-client-retries.md. */
const pushback = "grpc-retry-pushback-ms"

/** The trailers of a refused call. `retryMillis`: the caller should wait this long before it calls again. */
export const trailers = (
  code: Grpc.status,
  message: string,
  info: ErrorInfo,
  retryMillis?: number
): Grpc.Metadata => {
  const details = [{ type_url: typeUrl, value: Info.encode(info).finish() }]
  if (retryMillis !== undefined) {
    const retry_delay = { seconds: Math.floor(retryMillis / 1_000), nanos: retryMillis % 1_000 * 1_000_000 }
    details.push({ type_url: retryUrl, value: Retry.encode({ retry_delay }).finish() })
  }
  const metadata = new Grpc.Metadata()
  if (retryMillis !== undefined) metadata.set(pushback, String(retryMillis))
  metadata.set(trailer, Buffer.from(Status.encode({ code, message, details }).finish()))
  return metadata
}
