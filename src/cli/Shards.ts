import { Command, Options } from "@effect/cli"
import { Console, Effect, Layer, Option, Schema } from "effect"
import { AppConfig } from "../Config.js"
import * as Postgres from "../infra/Postgres.js"
import { Outbox } from "../outbox/Outbox.js"
import { ShardBatches } from "../outbox/ShardBatches.js"
import { json, print } from "./Output.js"

/** Both answers at once, or an answer where there is no question. */
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
  json
}, ({ json, sent, unsent }) =>
  Effect.gen(function*() {
    const config = yield* AppConfig
    const outbox = Outbox.Default({
      topic: config.paymentTopic,
      lease: config.outboxLease,
      maxAttempts: config.outboxMaxAttempts
    })
    const work = Option.match(Option.orElse(sent, () => unsent), {
      onNone: () => list(json),
      onSome: (shard) =>
        Option.isSome(sent) && Option.isSome(unsent)
          ? new NothingToDecide({ problem: "either --sent or --unsent" })
          : decide(shard, Option.isSome(sent))
    })
    return yield* Effect.provide(
      work,
      ShardBatches.Default.pipe(
        Layer.provide(outbox),
        Layer.provide(Postgres.layer({ url: config.databaseUrl, maxConnections: 2 }))
      )
    )
  })).pipe(Command.withDescription("Show the shards of exactly-once delivery, and decide on a stuck one"))
