import { Effect } from "effect"
import { HealthImplementation, protoPath } from "grpc-health-check"

export { protoPath }

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
    /** Follows `healthy`, looking every second, for ever. */
    follow: <R>(healthy: Effect.Effect<boolean, never, R>) =>
      healthy.pipe(Effect.flatMap(set), Effect.zipRight(Effect.sleep("1 second")), Effect.forever)
  } as const
}
