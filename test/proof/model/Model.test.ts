import { SqlClient } from "@effect/sql"
import { assert, layer } from "@effect/vitest"
import { Cause, Effect, Exit, FastCheck as fc, Layer, Logger, Redacted, Runtime } from "effect"
import { Redis as RedisClient } from "ioredis"
import { inject } from "vitest"
import { Redis } from "../../../src/infra/redis/Redis.js"
import { Dedupe } from "../../../src/inventory/Dedupe.js"
import { Outbox } from "../../../src/outbox/Outbox.js"
import { OutboxWake } from "../../../src/outbox/OutboxWake.js"
import { PaymentRepo } from "../../../src/payments/PaymentRepo.js"
import { Payments } from "../../../src/payments/Payments.js"
import * as PgTest from "../../harness/PgTest.js"
import { bound } from "../Bounds.js"
import * as Seed from "../Seed.js"
import { maxAttempts, Violation } from "./Model.js"
import type { Step } from "./Steps.js"
import { sequence } from "./Steps.js"
import * as System from "./System.js"

const sequences = bound({ standard: 100, large: 1_000 })

/** A database of Redis that nobody else empties or fills. */
const redisUrl = () => `${inject("redisUrl")}/7`

const services = Payments.Default.pipe(
  Layer.provide(PaymentRepo.Default),
  Layer.provideMerge(Outbox.Default({ topic: "payment", lease: "1 hour", maxAttempts })),
  Layer.provideMerge(OutboxWake.layerLocal),
  Layer.merge(
    Layer.suspend(() =>
      Dedupe.layer({ ttl: "1 hour" }).pipe(Layer.provide(Redis.layer({ url: Redacted.make(redisUrl()) })))
    )
  ),
  Layer.provideMerge(PgTest.layer),
  Layer.provide(Logger.remove(Logger.defaultLogger))
)

const show = (step: Step) => JSON.stringify(step).replaceAll("\"", "")

/** Runs one sequence; throws the violation of its first step that breaks the contract. */
const held = Effect.fnUntraced(function*(redis: RedisClient, steps: ReadonlyArray<Step>, tally: Map<string, number>) {
  const system = yield* System.make(redis)
  for (const [i, step] of steps.entries()) {
    const exit = yield* Effect.exit(system.run(step))
    if (Exit.isFailure(exit)) {
      const error = Cause.squash(exit.cause)
      const said = error instanceof Violation ? error.message : String(error instanceof Error ? error.stack : error)
      throw new Violation(`step ${i + 1}, ${show(step)}: ${said.slice(0, 600)}`)
    }
    tally.set(step._tag, (tally.get(step._tag) ?? 0) + (exit.value ? 1 : 0))
  }
  const { topic } = system.state()
  const add = (what: string, n: number) => tally.set(what, (tally.get(what) ?? 0) + n)
  add("sent", topic.length)
  add("sent again", topic.length - new Set(topic.map((_) => _.event)).size)
  add("terminal", topic.filter(({ event }) => !event.endsWith("CREATED")).length)
})

layer(services, { timeout: "120 seconds", excludeTestServices: true })("P2 P6: the contract as a model", (it) => {
  it.scoped(
    `${sequences} sequences of records, settlements, relays, crashes: every step agrees with the model`,
    () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        // what is held to the model is what is committed, not what survives a loss of power; sessions have it from their
        // beginning, so those that are open make room
        const database = new URL(yield* PgTest.DatabaseUrl).pathname.slice(1)
        yield* PgTest.admin(`ALTER DATABASE ${database} SET synchronous_commit = off`)
        yield* PgTest.admin(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '${database}'`)
        yield* sql`SELECT set_config('synchronous_commit', 'off', false)`.pipe(Effect.retry({ times: 20 }))
        const redis = yield* Effect.acquireRelease(
          Effect.sync(() => new RedisClient(redisUrl())),
          (redis) => Effect.sync(() => redis.disconnect())
        )
        const run = Runtime.runPromise(yield* Effect.runtime<System.Needs>())
        const tally = new Map<string, number>()
        yield* Effect.promise(() =>
          fc.assert(
            fc.asyncProperty(sequence, (steps) => run(Effect.scoped(held(redis, steps, tally)))),
            { numRuns: sequences, ...Seed.given() }
          )
        )
        const seen = [...tally].map(([what, n]) => `${what} ${n}`).join(", ")
        // each kind of step must have happened, or the proof shows nothing of it
        for (
          const what of [
            "sent",
            "sent again",
            "terminal",
            "Refuse",
            "Release",
            "Renew",
            "Race",
            "Replay",
            "Receive",
            "SetBack",
            "Crash",
            "FlushRedis"
          ]
        ) {
          assert.isAbove(tally.get(what) ?? 0, 0, `${what}, of ${seen}`)
        }
        process.stdout.write(`steps: ${seen}\n`)
      }),
    600_000
  )
})
