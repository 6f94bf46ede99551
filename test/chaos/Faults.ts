import { Duration, Effect } from "effect"
import type { Mode, Proxy } from "../harness/Proxy.js"
import type { Ground } from "./Ground.js"

/** What the seed decides of a fault. */
export interface Dose {
  readonly seconds: number
  /** Which of several. */
  readonly pick: number
}

type Fault = (ground: Ground, dose: Dose) => Effect.Effect<void, unknown>

const lasts = ({ seconds }: Dose) => Effect.sleep(Duration.seconds(seconds))

const network = (server: keyof Ground["proxies"], mode: Mode): Fault => ({ proxies }, dose) => {
  const proxy: Proxy = proxies[server]
  return Effect.acquireUseRelease(proxy.set(mode), () => lasts(dose), () => proxy.set("pass"))
}

/** What may be done to a running system. Each ends by itself, and leaves servers and services that can work. */
export const faults = {
  "instance killed": (ground, { pick }) =>
    Effect.gen(function*() {
      const instance = yield* ground.some(pick)
      yield* ground.dismiss(instance)
      yield* instance.program.signal("SIGKILL")
      yield* instance.gone
      yield* ground.enlist
    }),
  "instance frozen": (ground, dose) =>
    Effect.gen(function*() {
      const { program } = yield* ground.some(dose.pick)
      yield* Effect.acquireUseRelease(
        program.signal("SIGSTOP"),
        () => Effect.zipRight(lasts(dose), lasts(dose)),
        () => program.signal("SIGCONT")
      )
    }),
  "instance joins, another leaves": (ground, { pick }) =>
    Effect.gen(function*() {
      const instance = yield* ground.some(pick)
      yield* ground.enlist
      yield* ground.retire(instance)
    }),
  "number of shards changed": ({ operate }, { pick }) => operate("shards", "--count", String(2 ** (pick % 6))),
  "postgres crashes": ({ postgres }) => postgres.restart,
  "postgres backends terminated": ({ saga }) =>
    saga.tables.query(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    ),
  "broker killed": ({ kafka }) => kafka.restart,
  "broker frozen": ({ kafka }, dose) => Effect.acquireUseRelease(kafka.freeze, () => lasts(dose), () => kafka.thaw),
  "redis gone": ({ redis }, dose) => redis.crash.pipe(Effect.zipRight(lasts(dose)), Effect.zipRight(redis.start)),
  "redis restarted": ({ redis }) => redis.restart,
  "redis flushed": ({ command }) => command("FLUSHALL"),
  "redis read-only": ({ command }, dose) =>
    Effect.acquireUseRelease(
      // the primary that it waits for does not exist
      command("REPLICAOF", "127.0.0.1", "1"),
      () => lasts(dose),
      () => command("REPLICAOF", "NO", "ONE")
    ),
  "redis out of memory": ({ command }, dose) =>
    Effect.acquireUseRelease(
      command("CONFIG", "SET", "maxmemory", "1"),
      () => lasts(dose),
      () => command("CONFIG", "SET", "maxmemory", "0")
    ),
  "network: postgres cut": network("postgres", "refuse"),
  "network: postgres delayed": network("postgres", { delayMillis: 200 }),
  "network: postgres stalls": network("postgres", "stall"),
  "network: postgres answers swallowed": network("postgres", "swallow"),
  "network: postgres answers torn": network("postgres", "tear"),
  "network: redis cut": network("redis", "refuse"),
  "network: redis delayed": network("redis", { delayMillis: 200 }),
  "network: redis stalls": network("redis", "stall"),
  "network: redis answers swallowed": network("redis", "swallow"),
  "network: kafka cut": network("kafka", "refuse"),
  "network: kafka delayed": network("kafka", { delayMillis: 200 }),
  "network: kafka stalls": network("kafka", "stall"),
  "network: kafka answers swallowed": network("kafka", "swallow"),
  "network: kafka answers torn": network("kafka", "tear")
} as const satisfies Record<string, Fault>

export type Kind = keyof typeof faults
