import type { HttpApp } from "@effect/platform"
import { HttpApiBuilder, HttpServer, HttpServerError } from "@effect/platform"
import type { Scope } from "effect"
import { Cause, Effect, Layer, Option } from "effect"
import type { Sources } from "../audit/Sources.js"
import type { Diagnosis } from "../doctor/Doctor.js"
import { DeadLetterBox } from "../repair/DeadLetterBox.js"
import { Operations } from "../repair/Operations.js"
import { OutboxEvents } from "../repair/OutboxEvents.js"
import { OutboxRepair } from "../repair/OutboxRepair.js"
import { OutboxReplay } from "../repair/OutboxReplay.js"
import type { AccessOptions } from "./Access.js"
import * as Access from "./Access.js"
import { Api } from "./Api.js"
import { unavailable } from "./Changes.js"
import * as DoctorHandlers from "./DoctorHandlers.js"
import * as LetterHandlers from "./LetterHandlers.js"
import * as OrderHandlers from "./OrderHandlers.js"
import * as OutboxHandlers from "./OutboxHandlers.js"
import * as SagaHandlers from "./SagaHandlers.js"
import * as SessionHandlers from "./SessionHandlers.js"
import * as Streams from "./Streams.js"
import * as TopicHandlers from "./TopicHandlers.js"

const operations = HttpApiBuilder.group(
  Api,
  "operations",
  (handlers) =>
    Effect.map(
      Operations,
      ({ last }) =>
        handlers.handle("last", ({ urlParams: { after, limit, order_id } }) =>
          last(limit, Option.map(Option.fromNullable(order_id), BigInt), after).pipe(
            Effect.mapBoth({
              onSuccess: (operations) => ({
                operations,
                next: operations.length < limit ? null : operations.at(-1)!.id
              }),
              onFailure: unavailable
            })
          ))
    )
)

export interface AdminOptions extends Sources {
  readonly access: AccessOptions
  /** Checks the servers and the settings. */
  readonly examine: Effect.Effect<Diagnosis>
  readonly version: string
  /** Pause between two heartbeats of a stream. Default: 15 seconds. */
  readonly heartbeat?: Streams.StreamsOptions["heartbeat"]
}

/** Streams of pages that are open, and of topics that are followed: each of the latter has a consumer. */
const streams = {
  saga: { most: 200, age: "30 minutes", backlog: 12 },
  topics: { most: 8, age: "15 minutes", backlog: 40 }
} as const

/** The operations API for the life of the scope. */
export interface AdminApi {
  /** Answers `/api/…` to callers that may, and `/openapi.json` to all. */
  readonly app: HttpApp.Default<never, Scope.Scope>
  /** Ends the open streams: a stop of the server waits for them otherwise. */
  readonly stop: Effect.Effect<void>
}

/** Makes the operations API. */
export const make = Effect.fnUntraced(function*(options: AdminOptions) {
  const { heartbeat } = options
  const access = yield* Access.make(options.access)
  const saga = yield* Streams.make({ ...streams.saga, heartbeat })
  const topics = yield* Streams.make({ ...streams.topics, heartbeat })
  const services = Layer.mergeAll(
    OutboxEvents.Default,
    OutboxRepair.Default,
    OutboxReplay.Default,
    Operations.Default,
    DeadLetterBox.Default(options)
  )
  const api = HttpApiBuilder.api(Api).pipe(
    Layer.provide(Layer.mergeAll(
      SessionHandlers.layer(options, access),
      SagaHandlers.layer(options, access, saga),
      OrderHandlers.layer(options),
      OutboxHandlers.layer(options),
      LetterHandlers.layer,
      TopicHandlers.layer(options, access, topics),
      operations,
      DoctorHandlers.layer(options.examine)
    )),
    Layer.provide(services),
    Layer.provide(access.layer)
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
  const app = served.pipe(
    Effect.tapErrorCause((cause) =>
      Option.match(Cause.dieOption(cause), {
        onNone: () => Effect.void,
        onSome: () => Effect.logError("a bug failed a request of the operations API", cause)
      })
    ),
    Effect.catchAllCause((cause) => Effect.map(HttpServerError.causeResponse(cause), ([response]) => response)),
    Effect.provide(context)
  ) as HttpApp.Default<never, Scope.Scope>
  return { app, stop: Effect.zipRight(saga.stop, topics.stop) } satisfies AdminApi
})
