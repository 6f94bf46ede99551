import { HttpApiBuilder } from "@effect/platform"
import { Effect } from "effect"
import { randomUUID } from "node:crypto"
import type { Sources } from "../audit/Sources.js"
import type { TerminalStatus } from "../domain/Payment.js"
import { OrderId, settlement } from "../domain/Payment.js"
import { Payments } from "../payments/Payments.js"
import { Operations } from "../repair/Operations.js"
import * as Conclusion from "../story/Conclusion.js"
import * as OrderStory from "../story/OrderStory.js"
import * as Telling from "../story/Telling.js"
import { Api } from "./Api.js"
import { Conflict, NotFound } from "./api/Refusals.js"
import { documentOf, operatorOf, unavailable } from "./Changes.js"
import * as OrderRows from "./OrderRows.js"
import { recordOf, whole } from "./Records.js"

/** What a request to settle gives. */
interface Asked {
  readonly path: { readonly order_id: string }
  readonly payload: {
    readonly reason: string
    readonly operator?: string | undefined
    readonly dry_run: boolean
  }
}

/** Answers `/api/orders…`. */
export const layer = (options: Sources) =>
  HttpApiBuilder.group(Api, "orders", (handlers) =>
    Effect.gen(function*() {
      const { tell } = yield* OrderStory.make(options)
      const { find } = yield* OrderRows.make
      const payments = yield* Payments
      const operations = yield* Operations

      /**
       * Settles the payment of an order as a gRPC call does: the payment gets the name of the author in the same transaction. The
       * row of table operation follows in its own.
       */
      const settle = (action: "payment pay" | "payment refuse", status: TerminalStatus) => ({ path, payload }: Asked) =>
        Effect.gen(function*() {
          const { dry_run, reason } = payload
          const operator = yield* operatorOf(payload.operator)
          const orderId = OrderId.make(BigInt(path.order_id))
          const { status: before } = yield* payments.get(orderId)
          const answer = { order_id: path.order_id, before, status, dry_run }
          const effect = settlement[before][status]
          if (effect === "keep") return { ...answer, changed: false }
          if (dry_run && effect === "settle") return { ...answer, changed: false }
          yield* payments.settle(orderId, status, operator)
          const run = randomUUID()
          yield* operations.note({ run, operator, reason }, {
            action,
            orderId,
            place: undefined,
            before: { status: before },
            after: { status }
          })
          yield* Effect.logInfo("an operator settled a payment").pipe(Effect.annotateLogs({ run, operator, action }))
          return { ...answer, changed: true }
        }).pipe(Effect.catchTags({
          PaymentNotFound: ({ message }) => new NotFound({ message }),
          PaymentAlreadySettled: ({ message }) => new Conflict({ message }),
          DatabaseUnavailable: (error) => unavailable(error)
        }))

      return handlers
        .handle("orders", ({ urlParams: { after, from, key, limit, order_id, status, until } }) =>
          find({ orderId: order_id, key, status, from, until, after, limit }).pipe(Effect.mapBoth({
            onSuccess: ({ examined, next, rows }) => ({ orders: rows, examined, next }),
            onFailure: unavailable
          })))
        .handle("story", ({ path, urlParams }) =>
          Effect.gen(function*() {
            const story = yield* Effect.mapError(tell(BigInt(path.order_id), urlParams.since?.getTime()), unavailable)
            const { says, state } = Conclusion.conclude(story)
            return state === "unknown" ? yield* new NotFound({ message: says }) : documentOf({
              ...Telling.document(story),
              raw: story.raw.map(({ partition, record, topic }) => recordOf(topic, partition, record, whole))
            })
          }))
        .handle("pay", settle("payment pay", "COMPLETED"))
        .handle("refuse", settle("payment refuse", "FAILED"))
    }))
