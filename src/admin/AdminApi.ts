import type { HttpApp } from "@effect/platform"
import { HttpApiBuilder, HttpServer, HttpServerError } from "@effect/platform"
import type { Scope } from "effect"
import { Effect, Layer, Option } from "effect"
import type { Sources } from "../audit/Sources.js"
import { DeadLetterBox } from "../repair/DeadLetterBox.js"
import { Operations } from "../repair/Operations.js"
import { OutboxEvents } from "../repair/OutboxEvents.js"
import { OutboxRepair } from "../repair/OutboxRepair.js"
import { OutboxReplay } from "../repair/OutboxReplay.js"
import * as Conclusion from "../story/Conclusion.js"
import * as OrderStory from "../story/OrderStory.js"
import * as Telling from "../story/Telling.js"
import * as AdminToken from "./AdminToken.js"
import { Api } from "./Api.js"
import { NotFound } from "./api/Refusals.js"
import { documentOf, unavailable } from "./Changes.js"
import * as Later from "./Later.js"
import * as LetterHandlers from "./LetterHandlers.js"
import * as OutboxHandlers from "./OutboxHandlers.js"

const orders = (options: Sources) =>
  HttpApiBuilder.group(
    Api,
    "orders",
    (handlers) =>
      Effect.map(OrderStory.make(options), ({ tell }) =>
        handlers.handle("story", ({ path, urlParams }) =>
          Effect.gen(function*() {
            const story = yield* Effect.mapError(tell(BigInt(path.order_id), urlParams.since?.getTime()), unavailable)
            const { says, state } = Conclusion.conclude(story)
            return state === "unknown" ? yield* new NotFound({ message: says }) : documentOf(Telling.document(story))
          })).handle("orders", () => Effect.dieMessage("later")).handle("pay", () => Effect.dieMessage("later")).handle("refuse", () => Effect.dieMessage("later")))
  )

const operations = HttpApiBuilder.group(
  Api,
  "operations",
  (handlers) =>
    Effect.map(
      Operations,
      ({ last }) =>
        handlers.handle("last", ({ urlParams: { limit, order_id } }) =>
          last(limit, Option.map(Option.fromNullable(order_id), BigInt)).pipe(
            Effect.mapBoth({
              onSuccess: (rows) =>
                ({ operations: rows, next: null }),
              onFailure: unavailable
            })
          ))
    )
)

/** The operations API as an app for the operations port: `/api/…` with a token, and `/openapi.json` without it. */
export const app = (
  options: Sources,
  tokens: AdminToken.AdminTokens
) =>
  Effect.gen(function*() {
    const services = Layer.mergeAll(
      OutboxEvents.Default,
      OutboxRepair.Default,
      OutboxReplay.Default,
      Operations.Default,
      DeadLetterBox.Default(options)
    )
    const api = HttpApiBuilder.api(Api).pipe(
      Layer.provide(Layer.mergeAll(orders(options), OutboxHandlers.layer(options), LetterHandlers.layer, operations, Later.layer)),
      Layer.provide(services),
      Layer.provide(AdminToken.layer(tokens))
    )
    const context = yield* Layer.build(
      Layer.mergeAll(
        HttpApiBuilder.middlewareOpenApi().pipe(Layer.provideMerge(api)),
        HttpApiBuilder.Router.Live,
        HttpApiBuilder.Middleware.layer,
        HttpServer.layerContext
      )
    )
    const served = yield* Effect.provide(HttpApiBuilder.httpApp, context)
    return served.pipe(
      Effect.catchAllCause((cause) => Effect.map(HttpServerError.causeResponse(cause), ([response]) => response)),
      Effect.provide(context)
    ) as HttpApp.Default<never, Scope.Scope>
  })
