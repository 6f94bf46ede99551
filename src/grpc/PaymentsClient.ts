import type { Duration, Redacted } from "effect"
import { Effect, Option } from "effect"
import type { PaymentStatus, TerminalStatus } from "../domain/Payment.js"
import { OrderId, Payment } from "../domain/Payment.js"
import * as GrpcClient from "../infra/grpc/GrpcClient.js"
import type { Address } from "../infra/runtime/Setting.js"
import * as Proto from "./PaymentsProto.js"

export interface PaymentsClientOptions {
  /** Time limit of a call. Default: 5 seconds. */
  readonly deadline?: Duration.DurationInput
  /** Allow a proxy for calls to other machines (`GrpcClient`). Default: no. */
  readonly useProxy?: boolean
  /** Undefined: no TLS. */
  readonly tls?: GrpcClient.ClientTls | undefined
  /** The token of the caller. It is sent with TLS, and to loopback. */
  readonly token?: Redacted.Redacted | undefined
}

/** An event of a payment that topic `payment` does not have yet. `dead`: it waits for an operator. */
export interface PendingEvent {
  readonly id: string
  readonly says: PaymentStatus
  readonly dead: boolean
  readonly attempts: number
  readonly last_error: string
}

const statuses = {
  PAYMENT_STATUS_CREATED: "CREATED",
  PAYMENT_STATUS_COMPLETED: "COMPLETED",
  PAYMENT_STATUS_FAILED: "FAILED"
} as const satisfies Record<Proto.Payment["status"], PaymentStatus>

/**
 * A client of `paymentsapi.PaymentsApi` at this address, for the life of the scope. Interruption cancels a call.
 *
 * Fails with `TokenUnprotected` instead of sending a token where others can read it. Calls fail with `GrpcCallError`; its `code` is one of proto/payments.proto.
 */
export const make = Effect.fnUntraced(function*(address: Address, options: PaymentsClientOptions = {}) {
  const client = yield* GrpcClient.make({ ...options, address, protoFile: Proto.file, service: Proto.service })

  /** Pays or refuses an order. Sends any number unchanged: the server validates it. */
  const updatePaymentStatus = Effect.fn("PaymentsClient.updatePaymentStatus")(
    function*(orderId: bigint, outcome: TerminalStatus) {
      yield* client.call("UpdatePaymentStatus", { order_id: String(orderId), status: outcome === "COMPLETED" })
    }
  )

  /** The payment of an order, and its events that are not published. */
  const getPaymentAndPending = Effect.fn("PaymentsClient.getPayment")(function*(orderId: bigint) {
    const payment: Proto.Payment = yield* client.call("GetPayment", { order_id: String(orderId) })
    return {
      payment: new Payment({
        orderId: OrderId.make(BigInt(payment.order_id)),
        status: statuses[payment.status],
        createdAt: Proto.date(payment.created_at),
        updatedAt: Proto.date(payment.updated_at),
        settledBy: Option.liftPredicate(payment.settled_by, (name) => name !== "")
      }),
      pending: payment.pending.map(({ says, ...event }): PendingEvent => ({ ...event, says: statuses[says] }))
    } as const
  })

  const getPayment = (orderId: bigint) => Effect.map(getPaymentAndPending(orderId), ({ payment }) => payment)

  /** Returns true when the server and its database have answered. */
  const getPing = client.call("GetPing", {}).pipe(
    Effect.map(({ pong }): boolean => pong),
    Effect.withSpan("PaymentsClient.getPing")
  )

  return { updatePaymentStatus, getPayment, getPaymentAndPending, getPing } as const
})
