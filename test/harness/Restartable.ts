import * as NodeContext from "@effect/platform-node/NodeContext"
import { Effect, Exit, Scope } from "effect"
import { readdirSync, readFileSync, rmSync } from "node:fs"
import type { Part } from "../../src/local/LocalStackError.js"
import * as Stack from "../../src/local/Stack.js"
import { freePort } from "./FreePort.js"
import type { Secured } from "./Secured.js"
import { freshFolder } from "./World.js"

interface Options {
  readonly port?: number
  /** Folder that may have data already. Default: a new one. */
  readonly folder?: string
  readonly kafkaProperties?: Record<string, string>
  /** Default: the server does not encrypt. */
  readonly tls?: Stack.StackOptions["tls"]
}

/** A process and its children: PostgreSQL has one for each session. */
const family = (pid: number) => [
  pid,
  ...readdirSync("/proc").filter((name) => {
    try {
      return /^\d+$/.test(name) &&
        readFileSync(`/proc/${name}/stat`, "utf8").split(") ")[1]?.split(" ")[1] === String(pid)
    } catch {
      // it has ended
      return false
    }
  }).map(Number)
]

/** A server that can be stopped and started again with its data, for the life of the scope. */
export const make = Effect.fnUntraced(function*(
  part: Part,
  { folder: given, kafkaProperties = {}, port = 0, tls }: Options = {}
) {
  const folder = given ?? (yield* freshFolder)
  let kafkaLibraries: string | undefined
  const boot = (port: number) =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const stack = yield* Stack.start({
        folder,
        cache: ".local/cache",
        ports: { postgres: 0, redis: 0, kafka: 0, [part]: port },
        parts: [part],
        shortLived: true,
        kafkaProperties,
        kafkaLibraries,
        ...tls === undefined ? {} : { tls }
      }).pipe(
        Scope.extend(scope),
        Effect.onError((cause) => Scope.close(scope, Exit.failCause(cause))),
        Effect.provide(NodeContext.layer)
      )
      return { running: stack.parts[part]!, scope }
    })
  const data = `${folder}/${part}/data`
  const signal = (name: NodeJS.Signals) => Effect.ignoreLogged(Effect.try(() => process.kill(now.running.pid, name)))
  const signalAll = (name: NodeJS.Signals) =>
    Effect.sync(() => {
      for (const pid of family(now.running.pid)) {
        try {
          process.kill(pid, name)
        } catch {
          // it has ended
        }
      }
    })
  /** Kills it with SIGKILL. Idempotent. */
  const crash = Effect.suspend(() =>
    up
      ? Effect.uninterruptible(Effect.gen(function*() {
        up = false
        yield* signal(part === "postgres" ? "SIGQUIT" : "SIGKILL")
        yield* Scope.close(now.scope, Exit.void)
      }))
      : Effect.void
  )
  /** Kills the process, and deletes its data: nothing of it comes back. */
  const destroy = Effect.suspend(() =>
    up
      ? Effect.uninterruptible(Effect.gen(function*() {
        up = false
        yield* signal("SIGKILL")
        rmSync(data, { recursive: true, force: true })
        yield* Scope.close(now.scope, Exit.void)
      }))
      : Effect.void
  )
  /** Stops it as an operator does; it sends its standbys and followers what they lack. */
  const stop = Effect.suspend(() =>
    Effect.uninterruptible(Effect.gen(function*() {
      up = false
      yield* Scope.close(now.scope, Exit.void)
    }))
  )
  yield* Effect.addFinalizer(() => Effect.sync(() => rmSync(folder, { recursive: true, force: true })))
  let up = true
  let now = yield* boot(port)
  yield* Effect.addFinalizer(() => crash)

  /** Starts it again with the same data and port. */
  const start = Effect.uninterruptibleMask((restore) =>
    Effect.gen(function*() {
      now = yield* restore(boot(now.running.port))
      up = true
    })
  )

  return {
    url: now.running.url,
    data,
    /** What it has printed since its last start. */
    log: Effect.sync(() => readFileSync(`${folder}/${part}/log`, "utf8")),
    /** Kafka only: the next start is one of the version with these jars. */
    upgrade: (libraries: string) => Effect.sync(() => (kafkaLibraries = libraries)),
    crash,
    destroy,
    stop,
    start,
    restart: Effect.zipRight(crash, start),
    /** Freezes it; its connections stay open. */
    freeze: signalAll("SIGSTOP"),
    thaw: signalAll("SIGCONT")
  } as const
})

export type Restartable = Effect.Effect.Success<ReturnType<typeof make>>

/**
 * A broker with two listeners: `url` is its own address. Clients of `front` reach it only through a proxy on that port, which
 * must forward to `behind`, because a broker redirects its clients to the address that it advertises. With `secured`, both speak
 * TLS, and clients of `front` log in.
 */
export const makeBrokerBehind = Effect.fnUntraced(function*(front: number, secured?: Secured) {
  const [port, behind, controller] = yield* Effect.all([freePort, freePort, freePort])
  const [own, other] = secured === undefined ? ["PLAINTEXT", "PLAINTEXT"] : ["SSL", "SASL_SSL"]
  const broker = yield* make("kafka", {
    port,
    ...secured === undefined ? {} : { tls: secured.servers },
    kafkaProperties: {
      "listeners": `${own}://127.0.0.1:${port},BEHIND://127.0.0.1:${behind},CONTROLLER://127.0.0.1:${controller}`,
      "advertised.listeners": `${own}://localhost:${port},BEHIND://127.0.0.1:${front}`,
      "listener.security.protocol.map": `${own}:${own},BEHIND:${other},CONTROLLER:${own}`,
      "inter.broker.listener.name": own!,
      "controller.quorum.voters": `1@127.0.0.1:${controller}`,
      ...secured?.listener("BEHIND")
    }
  })
  return { broker, behind: `kafka://127.0.0.1:${behind}`, front: `127.0.0.1:${front}` } as const
})
