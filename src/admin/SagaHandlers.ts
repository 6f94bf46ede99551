import { HttpApiBuilder, HttpServerRequest } from "@effect/platform"
import { Effect } from "effect"
import type { Access } from "./Access.js"
import { Api } from "./Api.js"
import type { Saga } from "./api/Saga.js"
import type { SamplerOptions } from "./saga/Sampler.js"
import * as Sampler from "./saga/Sampler.js"
import type { Reader, Streams } from "./Streams.js"
import { event } from "./Streams.js"

/** Answers `/api/saga` and `/api/saga/live`: all readers get the bytes of one sample. */
export const layer = (options: SamplerOptions, access: Access, streams: Streams) =>
  HttpApiBuilder.group(Api, "saga", (handlers) =>
    Effect.gen(function*() {
      const readers = new Set<Reader>()
      const changed = (saga: Saga) => {
        if (readers.size === 0) return
        const bytes = event("saga", saga)
        for (const { send } of readers) send(bytes)
      }
      const sampler = yield* Sampler.make(options, { changed, isRead: () => readers.size > 0 })
      const follow = (reader: Reader) =>
        Effect.gen(function*() {
          yield* Effect.acquireRelease(
            Effect.sync(() => void readers.add(reader)),
            () => Effect.sync(() => void readers.delete(reader))
          )
          reader.send(event("saga", yield* sampler.current))
          return yield* Effect.never
        }).pipe(Effect.scoped)

      return handlers
        .handle("saga", () => Effect.map(sampler.current, (saga) => ({ ...saga, history: sampler.history() })))
        .handleRaw("sagaLive", () =>
          Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) =>
            streams.open(access.stillMayRead(request), follow)))
    }))
