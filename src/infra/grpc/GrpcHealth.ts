import { Effect, FiberId, FiberSet } from "effect"
import { HealthImplementation } from "grpc-health-check"
import type { AddService, Stream } from "./GrpcStreams.js"

type Handler = (...args: ReadonlyArray<any>) => void

/**
 * The standard gRPC health service for `services`; the empty name means the whole server.
 *
 * Runs `healthy` for each check, and every 5 seconds for each watching client. Without clients it does nothing.
 */
export const make = Effect.fnUntraced(function*<R>(
  services: ReadonlyArray<string>,
  healthy: Effect.Effect<boolean, never, R>
) {
  const runFork = yield* FiberSet.makeRuntime<R>()
  const health = new HealthImplementation(Object.fromEntries(services.map((name) => [name, "NOT_SERVING"] as const)))
  let [serving, stopped] = [false, false]
  const set = (now: boolean) => {
    if (serving === now || stopped) return
    serving = now
    services.forEach((name) => health.setStatus(name, now ? "SERVING" : "NOT_SERVING"))
  }
  const refresh = Effect.map(healthy, set)

  const refreshed = (handler: Handler): Handler => (...args) => runFork(refresh).addObserver(() => handler(...args))
  const watched = (handler: Handler) => (call: Stream) => {
    const follow = Effect.forever(Effect.delay(refresh, "5 seconds"))
    const fiber = runFork(Effect.zipRight(Effect.zipRight(refresh, Effect.sync(() => handler(call))), follow))
    call.once("cancelled", () => fiber.unsafeInterruptAsFork(FiberId.none))
  }

  return {
    register: (server: AddService) =>
      health.addToServer({
        addService: (definition, { check, list, watch }) =>
          server.addService(definition, {
            check: refreshed(check as Handler),
            list: refreshed(list as Handler),
            watch: watched(watch as Handler)
          })
      }),
    /** Switches all services to NOT_SERVING for good. */
    stop: Effect.sync(() => {
      set(false)
      stopped = true
    })
  } as const
})
