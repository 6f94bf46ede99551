import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { randomUUID } from "node:crypto"
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs"
import { eventually } from "../../harness/Eventually.js"
import * as Saga from "../Saga.js"

const limit = 300_000
const root = "/sys/fs/cgroup/memory"

/** A group of processes with a memory limit, as a container has one (cgroup v1). It goes with the scope. */
const memoryGroup = Effect.gen(function*() {
  const path = `${root}/payments-${randomUUID().slice(0, 8)}`
  yield* Effect.acquireRelease(
    Effect.sync(() => mkdirSync(path)),
    // its last process may still be ending
    () => Effect.sync(() => rmdirSync(path)).pipe(eventually())
  )
  const read = (name: string) => readFileSync(`${path}/${name}`, "utf8")
  return {
    path,
    /** Its processes may take so many bytes more than they have. */
    leave: (bytes: number) =>
      Effect.sync(() =>
        writeFileSync(`${path}/memory.limit_in_bytes`, String(Number(read("memory.usage_in_bytes")) + bytes))
      ).pipe(eventually()),
    unlimited: Effect.sync(() => writeFileSync(`${path}/memory.limit_in_bytes`, "-1")),
    /** How many processes the kernel has killed in it. */
    killed: Effect.sync(() => Number(/^oom_kill (\d+)$/m.exec(read("memory.oom_control"))?.[1]))
  } as const
})

const canLimit = process.getuid?.() === 0 && existsSync(`${root}/memory.limit_in_bytes`)
const kills = 4

describe("P1 P2 P3 P4 P5: out of memory", () => {
  for (const delivery of ["at-least-once", "exactly-once"]) {
    it.scopedLive.skipIf(!canLimit)(
      `${delivery}: the kernel kills an instance that takes more memory than its group has, again and again`,
      () =>
        Effect.gen(function*() {
          const group = yield* memoryGroup
          const saga = yield* Saga.make({
            env: {
              OUTBOX_DELIVERY: delivery,
              OUTBOX_LEASE: "5s",
              NODE_OPTIONS: `--import=${new URL("../preload/MemoryGroup.mjs", import.meta.url).href}`,
              MEMORY_GROUP: group.path
            },
            ordersPerSecond: 100
          })
          let program = yield* saga.serve()
          yield* program.untilReady
          yield* saga.outlives(
            Effect.gen(function*() {
              for (let n = 1; n <= kills; n++) {
                yield* saga.more(50)
                // what the load takes soon: the kernel chooses the moment
                yield* group.leave(2 << 20)
                const { signal } = yield* Effect.timeout(program.ended, "60 seconds")
                assert.strictEqual(signal, "SIGKILL")
                assert.strictEqual(yield* group.killed, n, "killed by somebody else")
                yield* group.unlimited
                // the supervisor starts it again
                program = yield* Saga.repair([saga], saga.serve())
              }
            }),
            { noResends: delivery === "exactly-once" }
          )
        }),
      limit
    )
  }
})
