import { Command } from "@effect/cli"
import { Clock, Effect, Layer, Option } from "effect"
import { LostRecords } from "../repair/LostRecords.js"
import { LostResults } from "../repair/LostResults.js"
import * as Change from "./Change.js"
import * as Database from "./Database.js"
import { time } from "./Flags.js"
import { waitingFor, withSettings } from "./Output.js"
import * as Prepare from "./Prepare.js"
import * as Words from "./RepairWords.js"
import { sources, used } from "./Sources.js"

const services = Layer.merge(LostResults.Default, LostRecords.Default)

/** How many orders and partitions a preview shows. */
const shown = 10

/** `payments recover`. */
export const command = Command.make("recover", {
  since: time("since", "Skip older records of both topics"),
  ...Change.flags
}, (flags) =>
  withSettings(used, (config) =>
    Effect.gen(function*() {
      yield* Prepare.migrated
      const results = yield* LostResults
      const records = yield* LostRecords
      const { acceptStatuses, groupId, inventoryTopic, kafka, paymentTopic } = sources(config)
      const now = yield* Clock.currentTimeMillis
      const since = Option.getOrUndefined(Option.map(flags.since, (since) => since(now)))
      const inventory = { kafka, group: groupId, topic: inventoryTopic, accept: acceptStatuses, since }
      if (!flags.dryRun) yield* records.unused(inventory)
      const plan = yield* results.plan({ kafka, topic: paymentTopic, since }).pipe(
        waitingFor(`comparing topic ${paymentTopic} with the tables`)
      )
      const rewinds = yield* records.plan(inventory, new Set(plan.orders.map(({ orderId }) => orderId))).pipe(
        waitingFor(`comparing topic ${inventoryTopic} with the tables`)
      )
      const lost = rewinds.reduce((sum, rewind) => sum + rewind.lost, 0)
      yield* Change.make(flags, {
        what: `take over ${Words.counted(plan.orders.length, "order")} from topic ${paymentTopic}, mark ${
          Words.counted(plan.sent.length, "event")
        } as sent, and read ${Words.counted(lost, "inventory record")} again`,
        count: plan.orders.length + plan.sent.length + rewinds.length,
        preview: [
          ...Words.table(
            plan.orders.slice(0, shown).map(({ created, orderId, status }) => [
              `order ${orderId}`,
              `becomes ${status}`,
              created === undefined ? "payment is CREATED" : "no payment"
            ])
          ),
          ...(plan.orders.length > shown ? [`and ${plan.orders.length - shown} more`] : []),
          ...rewinds.map(({ from, lost, partition, to }) =>
            `${inventoryTopic}/${partition}: from offset ${from} back to ${to}, ${
              Words.counted(lost, "record")
            } without a payment`
          )
        ].join("\n"),
        leftOut: plan.leftOut,
        apply: (by, pacing) =>
          results.recover(plan, paymentTopic, by, pacing).pipe(
            Effect.tap(() => records.rewind(inventory, rewinds, by)),
            Effect.map(({ changed, unchanged }) => ({
              changed: changed + plan.sent.length + rewinds.length,
              unchanged
            }))
          ),
        after: "Start the services, and run payments audit --wait 2m."
      })
    }).pipe(Effect.provide(Layer.provideMerge(services, Database.layer(config, 2)))))).pipe(
    Command.withDescription(
      "After a standby that lagged took over, or a restore: take over what the topics know and the database has lost"
    )
  )
