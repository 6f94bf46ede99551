import { assert, layer } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import { eventually } from "../e2e/Eventually.js"
import * as Cluster from "./Cluster.js"
import * as Saga from "./Saga.js"

class AtCluster extends Context.Tag("test/AtCluster")<AtCluster, Effect.Effect.Success<typeof Cluster.make>>() {}

const cluster = Layer.scoped(AtCluster, Cluster.make)

layer(cluster, { timeout: "120 seconds", excludeTestServices: true })("three brokers", (it) => {
  for (const delivery of ["at-least-once", "exactly-once"]) {
    it.scoped(
      `${delivery}: the broker that coordinates the group and leads a part of the topics is killed`,
      () =>
        Effect.gen(function*() {
          const cluster = yield* AtCluster
          const saga = yield* Saga.make({
            servers: { kafkaBrokers: cluster.url },
            env: { OUTBOX_DELIVERY: delivery, OUTBOX_LEASE: "5s" }
          })
          const { group, inventory, payment } = saga.world
          const program = yield* saga.serve()
          yield* program.untilReady
          yield* saga.outlives(
            Effect.gen(function*() {
              yield* cluster.inSync
              const node = yield* cluster.coordinator(group)
              for (const topic of [inventory, payment]) {
                assert.include([...(yield* cluster.leaders(topic)).values()], node, `leads nothing of ${topic}`)
              }
              const { crash, start } = cluster.broker(node)
              // the others are enough
              const moved = Effect.tap(
                cluster.coordinator(group),
                (now) => assert.notInclude([node, -1], now)
              ).pipe(eventually())
              yield* Effect.acquireUseRelease(
                crash,
                () => Effect.zipRight(moved, saga.more(100)),
                // a start that cannot be interrupted never gives up its waits
                () => Effect.interruptible(Effect.orDie(start))
              )
            }),
            ...delivery === "exactly-once" ? ["--no-resends"] : []
          )
          yield* program.untilReady
          assert.notInclude(program.stderr(), "a bug ended the service")
        }),
      240_000
    )
  }
})
