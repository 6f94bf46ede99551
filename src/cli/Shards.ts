import { Command, Options } from "@effect/cli"
import { Array as Arr, Console, Effect, Layer, Option, Schema } from "effect"
import { AppConfig } from "../Config.js"
import * as Postgres from "../infra/Postgres.js"
import { Outbox } from "../outbox/Outbox.js"
import { OutboxWake } from "../outbox/OutboxWake.js"
import { ShardBatches } from "../outbox/ShardBatches.js"
import * as ShardCount from "../outbox/ShardCount.js"
import { ShardOwners } from "../outbox/ShardOwners.js"
import { json, print } from "./Output.js"
import { kafkaOptions } from "./Services.js"

/** Several answers at once, or an answer where there is no question. */
export class NothingToDecide extends Schema.TaggedError<NothingToDecide>()("NothingToDecide", {
  problem: Schema.String
}) {
  override get message() {
    return this.problem
  }
}

const shard = (name: string, about: string) =>
  Options.integer(name).pipe(Options.withDescription(about), Options.withPseudoName("shard"), Options.optional)

const decide = Effect.fn("cli.decideShard")(function*(shard: number, sent: boolean) {
  const batches = yield* ShardBatches
  const events = yield* batches.decide(shard, sent)
  if (events === 0) {
    const problem = `shard ${shard} has no open batch, or one that is younger than a minute: nothing was changed`
    return yield* new NothingToDecide({ problem })
  }
  yield* Console.log(
    sent ? `${events} events of shard ${shard} are DONE` : `${events} events of shard ${shard} are sent again`
  )
})

const count = Options.integer("count").pipe(
  Options.filterMap(
    (value) => Arr.contains(ShardCount.counts as ReadonlyArray<number>, value) ? Option.some(value) : Option.none(),
    `--count is one of ${ShardCount.counts.join(", ")}`
  ),
  Options.withDescription(
    "From now on there are so many shards: a power of two, 64 at the most. Relays may be at work"
  ),
  Options.optional
)

const change = Effect.fn("cli.changeShards")(function*(count: number) {
  const config = yield* AppConfig
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
    const owner = state.owned_for === null ? "free" : `owned for ${state.owned_for.toFixed(0)} s yet`
    yield* print(
      asJson,
      { ...state },
      `${state.shard}  ${owner.padEnd(20)}  batch ${state.batch}  done ${state.done}  open events ${state.open}`
    )
  }
})

/** Shows the shards of delivery `exactly-once`, and lets an operator decide where nobody else can. */
export const command = Command.make("shards", {
  sent: shard("sent", "The open events of this shard are on the topic: mark them DONE"),
  unsent: shard("unsent", "The open events of this shard are not on the topic: send them"),
  count,
  json
}, ({ count, json, sent, unsent }) =>
  Effect.gen(function*() {
    const config = yield* AppConfig
    const outbox = Outbox.Default({
      topic: config.paymentTopic,
      lease: config.outboxLease,
      maxAttempts: config.outboxMaxAttempts
    })
    const work = Effect.gen(function*() {
      if ([sent, unsent, count].filter(Option.isSome).length > 1) {
        return yield* new NothingToDecide({ problem: "one of --sent, --unsent and --count" })
      }
      if (Option.isSome(sent)) return yield* decide(sent.value, true)
      if (Option.isSome(unsent)) return yield* decide(unsent.value, false)
      if (Option.isSome(count)) return yield* change(count.value)
      return yield* list(json)
    })
    return yield* Effect.provide(
      work,
      Layer.merge(ShardBatches.Default, ShardOwners.Default({ lease: config.outboxLease })).pipe(
        Layer.provideMerge(outbox),
        Layer.provide(OutboxWake.layerNotify),
        Layer.provideMerge(Postgres.layer({ url: config.databaseUrl, maxConnections: 4 }))
      )
    )
  })).pipe(
    Command.withDescription("Show the shards of exactly-once delivery, change their number, decide on a stuck one")
  )
