import { NodeContext } from "@effect/platform-node"
import { Effect, Exit, Scope } from "effect"
import { rmSync } from "node:fs"
import type { Part } from "../../src/local/LocalStackError.js"
import * as Stack from "../../src/local/Stack.js"
import { freshFolder } from "./World.js"

/** A server whose data outlives it, for the life of the scope. */
export const make = Effect.fnUntraced(function*(part: Part) {
  const folder = yield* freshFolder
  const boot = (port: number) =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const stack = yield* Stack.start({
        folder,
        cache: ".local/cache",
        ports: { postgres: 0, redis: 0, kafka: 0, [part]: port },
        parts: [part]
      }).pipe(Scope.extend(scope), Effect.provide(NodeContext.layer))
      return { running: stack.parts[part]!, scope }
    })
  /** Without a chance to put anything in order. */
  const crash = ({ running, scope }: Effect.Effect.Success<ReturnType<typeof boot>>) =>
    Effect.sync(() => process.kill(running.pid, part === "postgres" ? "SIGQUIT" : "SIGKILL")).pipe(
      Effect.ignoreLogged,
      Effect.zipRight(Scope.close(scope, Exit.void))
    )
  yield* Effect.addFinalizer(() => Effect.sync(() => rmSync(folder, { recursive: true, force: true })))
  let now = yield* boot(0)
  yield* Effect.addFinalizer(() => crash(now))

  return {
    url: now.running.url,
    /** Crashes it, and starts it again with the same data at the same port. */
    restart: Effect.gen(function*() {
      yield* crash(now)
      now = yield* boot(now.running.port)
    })
  } as const
})
