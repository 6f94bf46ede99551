import { Duration, Effect, Option, Redacted, Schema } from "effect"
import type { SecureContextOptions } from "node:tls"
import type { CallOptions, Code, PaymentsClient } from "../../clients/typescript/src/index.js"
import { connect, PaymentsError, TokenUnprotected as Unprotected } from "../../clients/typescript/src/index.js"
import type { TerminalStatus } from "../domain/Payment.js"
import { OrderId, Payment } from "../domain/Payment.js"
import * as GrpcHandshake from "../infra/grpc/GrpcHandshake.js"
import * as GrpcProcess from "../infra/grpc/GrpcProcess.js"
import type { Address } from "../infra/runtime/Setting.js"
import { showAddress } from "../infra/runtime/Setting.js"
import * as Trace from "../infra/runtime/Trace.js"

export type { PendingEvent } from "../../clients/typescript/src/index.js"

/** A call that ended with another status than OK. */
export class GrpcCallError extends Schema.TaggedError<GrpcCallError>()("GrpcCallError", {
  /** `host:port` of the server. */
  address: Schema.String,
  method: Schema.String,
  /** Name of the gRPC status code, e.g. `NOT_FOUND`. */
  code: Schema.declare((code): code is Code => typeof code === "string"),
  /** Message of the status, or the meaning of a failed handshake. */
  details: Schema.String,
  /** `reason` and `metadata` of the server's `google.rpc.ErrorInfo`. Without one: no reason. */
  reason: Schema.optional(Schema.String),
  metadata: Schema.optional(Schema.Record({ key: Schema.String, value: Schema.String }))
}) {
  override get message() {
    return `${this.method} at ${this.address}: ${this.code}: ${this.details}`
  }
}

/** The client would send its token where others can read it. */
export class TokenUnprotected extends Schema.TaggedError<TokenUnprotected>()("TokenUnprotected", {
  address: Schema.String
}) {
  override get message() {
    return `the token is not sent to ${this.address} without TLS: set GRPC_TLS=true, or GRPC_TLS_CA`
  }
}

export interface ClientTls {
  /** Trusted authorities (default: the roots of Node), and our certificate. */
  readonly context: Pick<SecureContextOptions, "ca" | "cert" | "key">
  /** Name in the server's certificate. Default: the host of the address. */
  readonly serverName?: string | undefined
}

export interface PaymentsClientOptions {
  /** Time limit of a call with its retries. Default: 5 seconds. */
  readonly deadline?: Duration.DurationInput
  /** Whether to repeat a call that may succeed later, within its deadline. Default: yes. */
  readonly retries?: boolean
  /** Allow a proxy for calls to other machines. Default: no. */
  readonly useProxy?: boolean
  /** Undefined: no TLS. */
  readonly tls?: ClientTls | undefined
  /** The token of the caller. It is sent with TLS, and to loopback. */
  readonly token?: Redacted.Redacted | undefined
}

/** Replaces the wildcard address by the loopback address: some systems cannot connect to a wildcard. */
const callable = ({ host, port }: Address): Address => ({
  host: host === "0.0.0.0" ? "127.0.0.1" : /^(::|0(:0){7})$/.test(host) ? "::1" : host,
  port
})

/** Connects the client of `clients/typescript`. */
const open = (
  address: string,
  { deadline = "5 seconds", retries = true, tls, token, useProxy = false }: PaymentsClientOptions
) =>
  Effect.try({
    try: () => {
      GrpcProcess.prepare()
      return connect({
        address,
        deadlineMillis: Duration.toMillis(deadline),
        retries,
        proxy: useProxy,
        tls: tls === undefined ? undefined : { ...tls.context, serverName: tls.serverName },
        token: token === undefined ? undefined : Redacted.value(token)
      })
    },
    catch: (error) => {
      if (error instanceof Unprotected) return new TokenUnprotected({ address })
      throw error
    }
  })

/**
 * The client of `clients/typescript` at this address, as effects, for the life of the scope. Interruption cancels a call.
 *
 * Fails with `TokenUnprotected` instead of sending a token where others can read it. Calls fail with `GrpcCallError`; its `code` is one of proto/payments.proto.
 */
export const make = Effect.fnUntraced(function*(at: Address, options: PaymentsClientOptions = {}) {
  const client = yield* Effect.acquireRelease(
    open(showAddress(callable(at)), options),
    (client) => Effect.sync(client.close)
  )

  const call = <A>(run: (client: PaymentsClient, of: CallOptions) => Promise<A>) =>
    Trace.current.pipe(
      Effect.flatMap((traceparent) =>
        Effect.tryPromise({
          try: (signal) => run(client, { signal, traceparent: Option.getOrUndefined(traceparent) }),
          catch: (error) => {
            if (!(error instanceof PaymentsError)) throw error
            const { address, code, details, metadata, method, reason } = error
            const explained = GrpcHandshake.explain(details, options.tls !== undefined)
            return new GrpcCallError({ address, method, code, details: explained, reason, metadata })
          }
        })
      )
    )

  /** Pays or refuses an order. Sends any number unchanged: the server validates it. */
  const updatePaymentStatus = Effect.fn("PaymentsClient.updatePaymentStatus")(
    (orderId: bigint, outcome: TerminalStatus) =>
      call((client, of) => outcome === "COMPLETED" ? client.pay(orderId, of) : client.refuse(orderId, of))
  )

  /** The payment of an order, and its events that are not published. */
  const getPaymentAndPending = Effect.fn("PaymentsClient.getPayment")(function*(orderId: bigint) {
    const { pending, ...payment } = yield* call((client, of) => client.get(orderId, of))
    return {
      payment: new Payment({
        ...payment,
        orderId: OrderId.make(payment.orderId),
        settledBy: Option.fromNullable(payment.settledBy)
      }),
      pending
    } as const
  })

  const getPayment = (orderId: bigint) => Effect.map(getPaymentAndPending(orderId), ({ payment }) => payment)

  /** Returns true when the server and its database have answered. */
  const getPing = Effect.withSpan(call((client, of) => client.ping(of)), "PaymentsClient.getPing")

  return { updatePaymentStatus, getPayment, getPaymentAndPending, getPing } as const
})
