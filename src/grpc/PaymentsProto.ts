import { fileURLToPath } from "node:url"

const protoFile = (name: string) => fileURLToPath(new URL(`../../proto/${name}`, import.meta.url))

/** The gRPC definition. In the message types below an int64 is decimal text and an enum value is its name. */
export const file = protoFile("payments.proto")

/** Descriptor sets of the service and of the standard health service, made by `npm run proto`. */
export const descriptorSets = [protoFile("payments.binpb"), protoFile("health.binpb")]

export const service = "paymentsapi.PaymentsApi"

export interface PayStatus {
  readonly order_id: string
  readonly status: boolean
}

export interface GetPaymentRequest {
  readonly order_id: string
}

export interface Payment {
  readonly order_id: string
  readonly status: `PAYMENT_STATUS_${"CREATED" | "COMPLETED" | "FAILED"}`
  readonly created_at: Timestamp
  readonly updated_at: Timestamp
  readonly pending: ReadonlyArray<PendingEvent>
  /** Empty: not settled, or by a caller without a name. */
  readonly settled_by: string
}

export interface PendingEvent {
  readonly id: string
  readonly says: Payment["status"]
  readonly dead: boolean
  readonly attempts: number
  readonly last_error: string
}

export interface Timestamp {
  readonly seconds: string
  readonly nanos: number
}

export const timestamp = (date: Date): Timestamp => {
  const seconds = Math.floor(date.getTime() / 1_000)
  return { seconds: String(seconds), nanos: (date.getTime() - seconds * 1_000) * 1_000_000 }
}
