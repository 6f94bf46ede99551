import type { Duration } from "effect"
import { Effect, Match, Option, Schema } from "effect"
import type { OrderId, PaymentAlreadySettled, PaymentNotFound } from "../domain/Payment.js"
import type { Scope } from "../domain/Scope.js"
import * as CrashPoint from "../drills/CrashPoint.js"
import * as Grpc from "../infra/grpc/Grpc.js"
import type { AccessOptions } from "../infra/grpc/GrpcAccess.js"
import type { Limit } from "../infra/grpc/GrpcCall.js"
import type { Refusal } from "../infra/grpc/GrpcRefusal.js"
import { DatabaseUnavailable } from "../infra/postgres/Postgres.js"
import { Health } from "../infra/runtime/Health.js"
import type { TlsServerFiles } from "../infra/tls/TlsServer.js"
import { Payments } from "../payments/Payments.js"
import * as Proto from "./PaymentsProto.js"

/** The request breaks the contract. Sending it again does not help. */
export class InvalidRequest extends Schema.TaggedError<InvalidRequest>()("InvalidRequest", {
  field: Schema.String,
  problem: Schema.String
}) {
  override get message() {
    return `${this.field} ${this.problem}`
  }
}

type Refused = InvalidRequest | PaymentNotFound | PaymentAlreadySettled | DatabaseUnavailable

/** Maps failures to status codes (CONTRACT: gRPC) and reasons (proto/payments.proto). Any other failure is a bug. */
const refuse = Match.type<Refused>().pipe(
  Match.tags({
    InvalidRequest: ({ field, message }): Refusal => ({
      code: "INVALID_ARGUMENT",
      details: message,
      reason: "INVALID_REQUEST",
      metadata: { field }
    }),
    PaymentNotFound: ({ message, orderId }): Refusal => ({
      code: "NOT_FOUND",
      details: message,
      reason: "PAYMENT_NOT_FOUND",
      metadata: { order_id: String(orderId) }
    }),
    PaymentAlreadySettled: ({ expired, message, orderId, status }): Refusal => ({
      code: "FAILED_PRECONDITION",
      details: message,
      reason: expired ? "PAYMENT_EXPIRED" : "PAYMENT_ALREADY_SETTLED",
      metadata: { order_id: String(orderId), status }
    }),
    DatabaseUnavailable: ({ message }): Refusal => ({
      code: "UNAVAILABLE",
      details: message,
      reason: "DATABASE_UNAVAILABLE"
    })
  }),
  Match.exhaustive
)

/** The wire type already limits an int64 to 2^63 - 1. */
const isOrderId = (id: bigint): id is OrderId => id >= 1n

/** Passes a valid order to `handle`. Fails with `InvalidRequest` for an order below 1. */
const withOrder = <A, E, Request extends { readonly order_id: string }>(
  handle: (orderId: OrderId, request: Request, caller: string | undefined) => Effect.Effect<A, E>
) =>
(request: Request, caller: string | undefined): Effect.Effect<A, E | InvalidRequest> => {
  const id = BigInt(request.order_id)
  return isOrderId(id)
    ? handle(id, request, caller)
    : new InvalidRequest({ field: "order_id", problem: "must be 1 or more" })
}

/** Shorter than the usual client deadline of 5 seconds, so that the client receives the reason. */
const limit: Limit = {
  duration: "4500 millis",
  refusal: refuse(new DatabaseUnavailable({ cause: new Error("call took too long") }))
}

/** The scope of each call. GetPing is open, as health and reflection are: they tell nothing that this repository does not. */
const scopeOf = { GetPayment: "payments:read", UpdatePaymentStatus: "payments:settle" } as const satisfies Record<
  string,
  Scope
>

export interface PaymentsApiOptions {
  /** `host:port`; port 0 takes a free one. */
  readonly address: string
  /** Undefined: no TLS. */
  readonly tls?: TlsServerFiles | undefined
  /** Default: every caller may make every call. */
  readonly access?: AccessOptions
  /** Time that a stop waits for running calls. Default: 5 seconds. */
  readonly drainLimit?: Duration.DurationInput
  /** Called once with the port. */
  readonly listening?: (port: number) => Effect.Effect<unknown>
}

/** Serves `paymentsapi.PaymentsApi` for ever. Its gRPC health is the readiness of role `grpc`: `/readyz/grpc`. */
export const serve = Effect.fnUntraced(function*(options: PaymentsApiOptions) {
  const payments = yield* Payments
  const health = yield* Health
  const part = health.part("grpc-server")

  const committed = Effect.as(CrashPoint.pass("grpc-committed"), {})
  const UpdatePaymentStatus = withOrder((orderId, { status }: Proto.PayStatus, caller) =>
    Effect.zipRight(payments.settle(orderId, status ? "COMPLETED" : "FAILED", caller), committed)
  )

  const GetPayment = withOrder((orderId, _: Proto.GetPaymentRequest) =>
    Effect.map(
      Effect.all([payments.get(orderId), payments.pending(orderId)]),
      ([{ createdAt, settledBy, status, updatedAt }, pending]): Proto.Payment => ({
        order_id: String(orderId),
        status: `PAYMENT_STATUS_${status}`,
        created_at: Proto.timestamp(createdAt),
        updated_at: Proto.timestamp(updatedAt),
        pending: pending.map(({ attempts, dead, id, last_error, says }) => ({
          id,
          says: `PAYMENT_STATUS_${says}` as Proto.Payment["status"],
          dead,
          attempts,
          last_error: last_error ?? ""
        })),
        settled_by: Option.getOrElse(settledBy, () => "")
      })
    )
  )

  const GetPing = () => payments.ping.pipe(Effect.as({ pong: true }))

  return yield* Grpc.serve<Refused, never>({
    ...options,
    listening: (port) => Effect.zipRight(Effect.sync(part.working), options.listening?.(port) ?? Effect.void),
    variable: "GRPC_ADDR",
    protoFile: Proto.file,
    descriptorSets: Proto.descriptorSets,
    service: Proto.service,
    methods: { UpdatePaymentStatus, GetPayment, GetPing },
    scopes: scopeOf,
    access: options.access ?? {},
    refuse,
    limit,
    healthy: Effect.map(health.current("grpc"), ({ ready }) => ready)
  })
})
