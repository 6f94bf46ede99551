import { Command, Options } from "@effect/cli"
import { Effect, Layer } from "effect"
import { integer } from "../infra/runtime/Setting.js"
import { Operations } from "../repair/Operations.js"
import * as Database from "./Database.js"
import { option, orderNumber } from "./Flags.js"
import { json, print, withSettings } from "./Output.js"
import * as Prepare from "./Prepare.js"
import * as Words from "./RepairWords.js"

/** `payments operations`. */
export const command = Command.make("operations", {
  order: option("order", orderNumber, "order_id").pipe(Options.withDescription("Only this order"), Options.optional),
  limit: option("limit", integer(1, 100_000), "number").pipe(
    Options.withDefault(20),
    Options.withDescription("Number of operations; 20 by default")
  ),
  json
}, ({ json, limit, order }) =>
  withSettings(Database.used, (config) =>
    Effect.gen(function*() {
      yield* Prepare.migrated
      const { last } = yield* Operations
      const rows = yield* last(limit, order)
      if (json) return yield* Effect.forEach(rows, (row) => print(true, { ...row }, ""), { discard: true })
      yield* print(
        false,
        {},
        rows.length === 0 ? "no operations" : Words.table(rows.map((row) => [
          row.at.toISOString(),
          row.operator,
          row.action,
          row.order_id === null ? "no order" : `order ${row.order_id}`,
          row.event_id === null ? (row.place ?? "").split(" ")[0]! : `event ${row.event_id}`,
          row.reason
        ])).join("\n")
      )
    }).pipe(Effect.provide(
      Layer.provideMerge(Operations.Default, Database.layer(config, 1))
    )))).pipe(Command.withDescription("Show what operators changed: when, who, what and why, newest first"))
