import { Effect } from "effect"
import { HealthImplementation } from "grpc-health-check"

/** The standard health service for `services`; the empty name stands for the whole server. */
export const make = (services: ReadonlyArray<string>) => {
  let serving = false
  const health = new HealthImplementation(Object.fromEntries(services.map((name) => [name, "NOT_SERVING"] as const)))
  const set = (now: boolean) =>
    Effect.sync(() => {
      if (serving === now) return
      serving = now
      services.forEach((name) => health.setStatus(name, now ? "SERVING" : "NOT_SERVING"))
    })
  return {
    register: health.addToServer.bind(health),
    set,
    /** Follows `healthy`, looking every 5 seconds, for ever. */
    follow: <R>(healthy: Effect.Effect<boolean, never, R>) =>
      healthy.pipe(Effect.flatMap(set), Effect.zipRight(Effect.sleep("5 seconds")), Effect.forever)
  } as const
}
