import * as Grpc from "@grpc/grpc-js"
import * as ErrorDetails from "./ErrorDetails.js"

/** Name of a gRPC status code other than OK. */
export type Code = Exclude<keyof typeof Grpc.status, "OK">

const retryable: ReadonlySet<Code> = new Set<Code>(["UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"])

/** A call that ended with another status than OK. The comments of proto/payments.proto list the codes and reasons. */
export class PaymentsError extends Error {
  override readonly name = "PaymentsError"

  constructor(
    /** `host:port` of the server. */
    readonly address: string,
    readonly method: string,
    readonly code: Code,
    /** Message of the status. */
    readonly details: string,
    /** `reason` of the server's `google.rpc.ErrorInfo`, e.g. `PAYMENT_ALREADY_SETTLED`. Undefined without one. */
    readonly reason?: string | undefined,
    /** `metadata` of that `ErrorInfo`. Undefined without one. */
    readonly metadata?: Readonly<Record<string, string>> | undefined
  ) {
    super(`${method} at ${address}: ${code}: ${details}`)
  }

  /**
   * True when the same call may succeed later. Calling again is safe: it changes nothing when the call before had taken effect.
   */
  get retryable(): boolean {
    return retryable.has(this.code)
  }
}

/** The error of a call, from the error of grpc-js. */
export const fromService = (address: string, method: string, error: Grpc.ServiceError): PaymentsError => {
  const info = ErrorDetails.read(error.metadata)
  // grpc-js appends an empty note
  const details = error.details.replace(/\s*Resolution note:\s*$/, "")
  return new PaymentsError(address, method, Grpc.status[error.code] as Code, details, info?.reason, info?.metadata)
}
