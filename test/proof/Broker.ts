import { Effect } from "effect"
import * as World from "../harness/World.js"

/** A broker of one's own, for the life of the scope. */
export const make = Effect.gen(function*() {
  const { kafkaBrokers, parts } = yield* World.server("kafka", 0)
  const signal = (name: NodeJS.Signals) => Effect.sync(() => void process.kill(parts.kafka!.pid, name))
  return {
    brokers: kafkaBrokers!,
    /** It stands still meanwhile: what it is sent waits in its sockets. */
    frozen: <A, E, R>(meanwhile: Effect.Effect<A, E, R>) =>
      Effect.acquireUseRelease(signal("SIGSTOP"), () => meanwhile, () => signal("SIGCONT"))
  } as const
})

export type Broker = Effect.Effect.Success<typeof make>
