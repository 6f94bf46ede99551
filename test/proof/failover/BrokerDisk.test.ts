import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { mkdirSync, symlinkSync } from "node:fs"
import { resolve } from "node:path"
import { eventually } from "../../harness/Eventually.js"
import { freshFolder } from "../../harness/World.js"
import * as Cluster from "../long/Cluster.js"
import * as Both from "./Both.js"
import { canMount, small } from "./Disk.js"

/** The broker whose disk fills up. */
const full = 3

describe("P1 P3 P4 P8: the disk of a broker", () => {
  it.scopedLive.skipIf(!canMount)(
    "the disk of one of three brokers is full, with both deliveries: its partitions move, and come back with room",
    () =>
      Effect.gen(function*() {
        let disk: Effect.Effect.Success<ReturnType<typeof small>> | undefined
        // the metadata of the cluster has a disk of its own
        const cluster = yield* Cluster.make({
          inSync: 2,
          dataFolders: ["data", "records"],
          properties: { "leader.imbalance.check.interval.seconds": "2" },
          prepare: Effect.fnUntraced(function*(node, path) {
            if (node !== full) return
            const folder = yield* freshFolder
            disk = yield* small(folder, 96)
            mkdirSync(path, { recursive: true })
            symlinkSync(resolve(folder), `${path}/records`)
          })
        })
        const { judge, more, sagas } = yield* Both.underLoad(cluster.url, 15)
        yield* cluster.inSync
        const led = Effect.map(
          Effect.forEach(sagas, ({ world }) => cluster.leaders(world.payment)),
          (all) => all.flatMap((leaders) => [...leaders.values()]).filter((leader) => leader === full).length
        )
        const before = yield* led
        const { log, start, stop } = cluster.broker(full)
        yield* disk!.fill
        yield* Effect.tap(log, (text) => assert.match(text, /Stopping serving logs in dir|No space left on device/))
          .pipe(
            eventually("60 seconds")
          )
        yield* more(50)
        // some replicas of this broker are gone
        const lost = yield* Effect.map(
          Effect.forEach(sagas, ({ world }) => cluster.described(world.payment)),
          (all) => all.flat().filter(({ isr }) => !isr.includes(full))
        ).pipe(
          Effect.tap((partitions) => {
            assert.isAbove(partitions.length, 0, "all replicas are in sync")
            assert.notInclude(partitions.map(({ leader }) => leader), full)
          }),
          eventually("60 seconds")
        )
        const meanwhile = yield* led
        yield* more(50)
        yield* disk!.free
        yield* stop
        yield* start
        yield* cluster.inSync
        yield* more(25)
        yield* judge
        console.log(
          `${lost.length} of 8 replicas lost; led ${before}, then ${meanwhile} partitions`
        )
      }),
    300_000
  )
})
