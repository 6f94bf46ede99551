import type * as Grpc from "@grpc/grpc-js"
import Protobuf from "protobufjs"

/** Why a call was refused, for programs: `google.rpc.ErrorInfo`. */
export interface ErrorInfo {
  readonly reason: string
  readonly metadata: Readonly<Record<string, string>>
}

/** Source: https://github.com/googleapis/googleapis/blob/master/google/rpc/error_details.proto and status.proto beside it. */
const definitions = `
  syntax = "proto3";
  message Any { string type_url = 1; bytes value = 2; }
  message Status { int32 code = 1; string message = 2; repeated Any details = 3; }
  message ErrorInfo { string reason = 1; string domain = 2; map<string, string> metadata = 3; }
`

/** Trailer with a `google.rpc.Status`: https://grpc.io/docs/guides/error/#richer-error-model. */
const trailer = "grpc-status-details-bin"
const typeUrl = "type.googleapis.com/google.rpc.ErrorInfo"

/** The `ErrorInfo` in the trailers of a call; undefined when a server sends none, or another form. */
export const read = (trailers: Grpc.Metadata): ErrorInfo | undefined => {
  const [bytes] = trailers.get(trailer)
  if (bytes === undefined) return undefined
  const { root } = Protobuf.parse(definitions, { keepCase: true })
  const [Status, Info] = [root.lookupType("Status"), root.lookupType("ErrorInfo")]
  try {
    const { details } = Status.toObject(Status.decode(bytes as Buffer), { defaults: true }) as {
      readonly details: ReadonlyArray<{ readonly type_url: string; readonly value: Uint8Array }>
    }
    const info = details.find(({ type_url }) => type_url === typeUrl)
    return info === undefined ? undefined : Info.toObject(Info.decode(info.value), { defaults: true }) as ErrorInfo
  } catch {
    // not a Status, although the trailer has its name
    return undefined
  }
}
