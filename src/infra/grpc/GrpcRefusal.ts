import type * as Grpc from "@grpc/grpc-js"

/** A gRPC status code other than OK. */
export type Code = Exclude<keyof typeof Grpc.status, "OK">

/** The gRPC status of a refused call. */
export interface Refusal {
  readonly code: Code
  readonly details: string
  /** `reason` and `metadata` of the `google.rpc.ErrorInfo` that the client gets. */
  readonly reason: string
  readonly metadata?: Readonly<Record<string, string>>
  /** The client gets a `google.rpc.RetryInfo` with this pause, in milliseconds. */
  readonly retryMillis?: number
}
