import { HttpApiBuilder } from "@effect/platform"
import { Effect, Layer } from "effect"
import { Api } from "./Api.js"

const later = () => Effect.dieMessage("this endpoint has no handler yet")

export const layer = Layer.mergeAll(
  HttpApiBuilder.group(Api, "session", (handlers) =>
    handlers.handle("session", later).handle("signIn", later).handle("signOut", later)),
  HttpApiBuilder.group(Api, "saga", (handlers) => handlers.handle("saga", later).handle("sagaLive", later)),
  HttpApiBuilder.group(Api, "topics", (handlers) =>
    handlers.handle("topics", later).handle("records", later).handle("recordsLive", later).handle("writeRecord", later)),
  HttpApiBuilder.group(Api, "doctor", (handlers) => handlers.handle("findings", later))
)
