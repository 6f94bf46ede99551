import { Command } from "@effect/cli"
import { Clock, Effect, Layer, Option, Schema } from "effect"
import { DeadLetterBox } from "../repair/DeadLetterBox.js"
import { Operations } from "../repair/Operations.js"
import * as Conclusion from "../story/Conclusion.js"
import * as OrderStory from "../story/OrderStory.js"
import * as Telling from "../story/Telling.js"
import * as Database from "./Database.js"
import { orderId, time } from "./Flags.js"
import { json, print, waitingFor, withSettings } from "./Output.js"
import * as Prepare from "./Prepare.js"
import { sources, used } from "./Sources.js"

/** No table and no topic names the order. */
export class OrderUnknown extends Schema.TaggedError<OrderUnknown>()("NOT_FOUND", { orderId: Schema.BigIntFromSelf }) {
  override get message() {
    return `order ${this.orderId} is not known`
  }
}

/** `payments order`. */
export const command = Command.make("order", {
  orderId,
  since: time("since", "Search the topics from this time on to their ends"),
  json
}, (flags) =>
  withSettings(used, (config) =>
    Effect.gen(function*() {
      yield* Prepare.migrated
      const now = yield* Clock.currentTimeMillis
      const { tell } = yield* OrderStory.make(sources(config))
      const story = yield* tell(flags.orderId, Option.getOrUndefined(Option.map(flags.since, (since) => since(now))))
        .pipe(
          waitingFor("reading the tables and the topics")
        )
      yield* print(flags.json, Telling.document(story), Telling.text(story))
      const { state } = Conclusion.conclude(story)
      if (state === "unknown") return yield* new OrderUnknown({ orderId: flags.orderId })
    }).pipe(Effect.provide(
      Layer.merge(Operations.Default, DeadLetterBox.Default(sources(config))).pipe(
        Layer.provideMerge(Database.layer(config, 2))
      )
    )))).pipe(
    Command.withDescription(
      "Tell the story of an order: its records, payment, events and letters, what it waits for and what to do"
    )
  )
