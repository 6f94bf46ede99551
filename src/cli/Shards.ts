import { Command, HelpDoc, Options, ValidationError } from "@effect/cli"
import { Console, Effect, Either, Layer, Option, Schema } from "effect"
import type { ConfigOf } from "../Config.js"
import { kafkaClient } from "../Config.js"
import { integer, oneOf } from "../infra/runtime/Setting.js"
import { Outbox } from "../outbox/Outbox.js"
import { OutboxWake } from "../outbox/OutboxWake.js"
import { ShardBatches } from "../outbox/sharded/ShardBatches.js"
import * as ShardCount from "../outbox/sharded/ShardCount.js"
import { ShardOwners } from "../outbox/sharded/ShardOwners.js"
import * as Database from "./Database.js"
import { option } from "./Flags.js"
import { json, print, withSettings } from "./Output.js"
import { kafkaOptions } from "./Services.js"

/** `--sent` or `--unsent` names a shard without a stuck batch. */
export class NothingToDecide extends Schema.TaggedError<NothingToDecide>()("NothingToDecide", {
  problem: Schema.String
}) {
  override get message() {
    return this.problem
  }
}

const shard = (name: string, about: string) =>
  option(name, integer(0, Math.max(...ShardCount.counts) - 1), "shard").pipe(
    Options.withDescription(about),
    Options.optional
  )

const decide = Effect.fn("cli.decideShard")(function*(shard: number, sent: boolean) {
  const batches = yield* ShardBatches
  const events = yield* batches.resolve(shard, sent)
  if (events === 0) {
    const problem = `nothing changed: shard ${shard} has no open batch older than a minute`
    return yield* new NothingToDecide({ problem })
  }
  yield* Console.log(
    sent ? `${events} events of shard ${shard} are DONE` : `${events} events of shard ${shard} will be sent again`
  )
})

const parseCount = (text: string) => Either.map(oneOf(...ShardCount.counts.map(String))(text), Number)

const used = [
  ...Database.used,
  ...kafkaClient,
  "paymentTopic",
  "outboxBatchSize",
  "outboxLease",
  "outboxMaxAttempts"
] as const
type Config = ConfigOf<(typeof used)[number]>

const count = option("count", parseCount, "number").pipe(
  Options.withDescription(
    "Change the number of shards: a power of two up to 64. Relays may run meanwhile"
  ),
  Options.optional
)

const change = Effect.fn("cli.changeShards")(function*(config: Config, count: number) {
  const before = yield* ShardCount.change(count, {
    kafka: kafkaOptions(config),
    topic: config.paymentTopic,
    batchSize: config.outboxBatchSize,
    lease: config.outboxLease
  })
  yield* Console.log(before === count ? `there are ${count} shards already` : `${count} shards instead of ${before}`)
})

const list = Effect.fn("cli.listShards")(function*(asJson: boolean) {
  const batches = yield* ShardBatches
  for (const state of yield* batches.states) {
    const owner = state.owned_for === null ? "free" : `owned for ${state.owned_for.toFixed(0)} s more`
    yield* print(
      asJson,
      { ...state },
      `${state.shard}  ${owner.padEnd(20)}  batch ${state.batch}  done ${state.done}  open events ${state.open}`
    )
  }
})

/** Shows the shards of exactly-once delivery, changes their number, and resolves a stuck one. */
export const command = Command.make("shards", {
  sent: shard("sent", "The open events of this shard are on the topic: mark them DONE"),
  unsent: shard("unsent", "The open events of this shard are not on the topic: send them"),
  count,
  json
}, ({ count, json, sent, unsent }) =>
  Effect.gen(function*() {
    if ([sent, unsent, count].filter(Option.isSome).length > 1) {
      return yield* Effect.fail(
        ValidationError.invalidArgument(HelpDoc.p("only one of --sent, --unsent and --count can be given"))
      )
    }
    return yield* withSettings(used, (config) => {
      const work = Effect.gen(function*() {
        if (Option.isSome(sent)) return yield* decide(sent.value, true)
        if (Option.isSome(unsent)) return yield* decide(unsent.value, false)
        if (Option.isSome(count)) return yield* change(config, count.value)
        return yield* list(json)
      })
      const outbox = Outbox.Default({
        topic: config.paymentTopic,
        lease: config.outboxLease,
        maxAttempts: config.outboxMaxAttempts
      })
      return Effect.provide(
        work,
        Layer.merge(ShardBatches.Default, ShardOwners.Default({ lease: config.outboxLease })).pipe(
          Layer.provideMerge(outbox),
          Layer.provide(OutboxWake.layerNotify),
          Layer.provideMerge(Database.layer(config, 4))
        )
      )
    })
  })).pipe(
    Command.withDescription("Show the shards of exactly-once delivery, change their number, or resolve a stuck one")
  )
