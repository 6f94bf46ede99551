import { Duration, Effect } from "effect"

/** Brokers that are in reach answer more often: `Spreads` asks them every three seconds. */
const silence = Duration.seconds(5)

/** Whether brokers answer this relay. What it holds for them keeps other relays from it. */
export class BrokerContact extends Effect.Service<BrokerContact>()("payments/BrokerContact", {
  effect: Effect.map(Effect.clock, (clock) => {
    // monotonic nanoseconds
    let at = clock.unsafeCurrentTimeNanos()
    return {
      /** A broker has answered. */
      answered: () => void (at = clock.unsafeCurrentTimeNanos()),
      /** Whether no broker has answered for some seconds. */
      isLost: Effect.sync(() => Duration.greaterThan(Duration.nanos(clock.unsafeCurrentTimeNanos() - at), silence))
    } as const
  })
}) {}
