import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "@effect/platform"
import { Schema } from "effect"
import { PaymentStatus } from "../../domain/Payment.js"
import { Admin, Settles } from "./Access.js"
import * as Fields from "./Fields.js"
import { BadRequest, Conflict, NotFound, Unavailable } from "./Refusals.js"

/** The payment of an order, in a list. */
export const Order = Schema.Struct({
  order_id: Schema.String,
  status: PaymentStatus,
  created_at: Schema.Date,
  updated_at: Schema.Date,
  inventory_key: Schema.NullOr(Schema.String),
  reason: Schema.NullOr(Schema.String),
  settled_by: Schema.NullOr(Schema.String),
  events_waiting: Schema.Int,
  events_dead: Schema.Int
}).annotations({ identifier: "Order" })

export const Orders = Schema.Struct({
  /** Newest first. */
  orders: Schema.Array(Order),
  examined: Schema.Int.annotations({ description: "Payments that this request read: at most 20,000" }),
  next: Schema.NullOr(Schema.String).annotations({
    description: "Give it as `after` to go on; null when there are no more payments"
  })
}).annotations({ identifier: "Orders" })

export const Settle = Schema.Struct({ ...Fields.author, dry_run: Fields.off }).annotations({ identifier: "Settle" })

export const Settled = Schema.Struct({
  order_id: Schema.String,
  before: PaymentStatus,
  status: PaymentStatus,
  changed: Schema.Boolean,
  dry_run: Schema.Boolean
}).annotations({ identifier: "Settled" })

const path = Schema.Struct({ order_id: Fields.digits })

const settlement = <Name extends "pay" | "refuse">(name: Name, summary: string) =>
  HttpApiEndpoint.post(name, `/api/orders/:order_id/${name}`).setPath(path).setPayload(Settle).addSuccess(Settled)
    .addError(BadRequest).addError(NotFound).addError(Conflict).addError(Unavailable)
    .annotate(OpenApi.Summary, summary).middleware(Settles)

export const group = HttpApiGroup.make("orders")
  .add(
    HttpApiEndpoint.get("orders", "/api/orders").setUrlParams(Schema.Struct({
      order_id: Schema.optional(Fields.digits),
      key: Schema.optional(Schema.UUID).annotations({ description: "idempotent_key of the inventory record" }),
      status: Schema.optional(PaymentStatus),
      from: Schema.optional(Fields.moment),
      until: Schema.optional(Fields.moment),
      after: Schema.optional(Schema.String.pipe(Schema.pattern(/^[\w-]{1,40}$/))),
      limit: Fields.smallLimit
    })).addSuccess(Orders).addError(Unavailable).middleware(Admin).annotate(
      OpenApi.Summary,
      "Find payments by order, key, status and time"
    )
  )
  .add(
    HttpApiEndpoint.get("story", "/api/orders/:order_id").setPath(path)
      .setUrlParams(Schema.Struct({ since: Schema.optional(Fields.moment) })).addSuccess(Fields.document)
      .addError(NotFound).addError(Unavailable).middleware(Admin)
      .annotate(
        OpenApi.Summary,
        "One order: its records, payment, events and letters, what it waits for and what to do"
      )
  )
  .add(settlement("pay", "Pay an order: its payment becomes COMPLETED"))
  .add(settlement("refuse", "Refuse an order: its payment becomes FAILED"))
