import { Effect } from "effect"
import { Redis } from "ioredis"
import { spawn } from "node:child_process"
import { mkdtempSync, readlinkSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { eventually } from "./Eventually.js"
import { freePort } from "./FreePort.js"

interface Options {
  /** URL of the primary that they watch over, under the name `main`. */
  readonly primary: string
  readonly count?: number
  /** Replicas that each of them must know before this is done. */
  readonly replicas?: number
  /** Lines of the settings of each of them. Default: it listens at its port without TLS. */
  readonly listen?: (port: number) => ReadonlyArray<string>
  /** Options of a client that may ask them. */
  readonly client?: { readonly password?: string; readonly tls?: { readonly ca: string } }
}

/** A client for the life of the scope. */
const connect = (url: string, options = {}) =>
  Effect.acquireRelease(
    Effect.sync(() => new Redis(url, options).on("error", () => {})),
    (client) => Effect.sync(() => client.disconnect())
  )

const field = (info: string, name: string) => new RegExp(`^${name}:(.*)$`, "m").exec(info)?.[1]?.trim() ?? ""

/** Starts Sentinels with the program of the primary. They take it for dead after a second. */
export const make = Effect.fnUntraced(function*(
  { client = {}, count = 1, listen = (port) => [`port ${port}`], primary, replicas = 0 }: Options
) {
  const folder = yield* Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "sentinels-"))),
    (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true }))
  )
  const { hostname, port: watched } = new URL(primary)
  const info = yield* Effect.flatMap(
    connect(primary, client.tls === undefined ? {} : { tls: client.tls }),
    (redis) => Effect.promise(() => redis.info("server"))
  )
  const program = readlinkSync(`/proc/${field(info, "process_id")}/exe`)
  return yield* Effect.forEach(Array.from({ length: count }), (_, i) =>
    Effect.gen(function*() {
      const port = yield* freePort
      const settings = `${folder}/${i}.conf`
      writeFileSync(
        settings,
        [
          ...listen(port),
          `dir ${folder}`,
          `sentinel monitor main ${hostname} ${watched} ${Math.floor(count / 2) + 1}`,
          "sentinel down-after-milliseconds main 1000",
          "sentinel failover-timeout main 5000",
          ""
        ].join("\n")
      )
      const server = yield* Effect.acquireRelease(
        Effect.sync(() => spawn(program, [settings, "--sentinel"], { stdio: "ignore" })),
        (server) => Effect.sync(() => server.kill("SIGKILL"))
      )
      return {
        /** `host:port`. */
        at: `127.0.0.1:${port}`,
        /** It still takes connections, and says nothing more. */
        freeze: Effect.sync(() => void server.kill("SIGSTOP"))
      }
    })).pipe(
      Effect.tap(Effect.forEach(({ at }) =>
        Effect.gen(function*() {
          const redis = yield* connect(`${client.tls === undefined ? "redis" : "rediss"}://${at}`, client)
          yield* Effect.tryPromise(async () => {
            const text = await redis.info("sentinel")
            const wanted = `status=ok,address=${hostname}:${watched},slaves=${replicas},sentinels=${count}`
            if (!text.includes(wanted)) throw new Error(`${at} says ${text}, not yet ${wanted}`)
          }).pipe(eventually("30 seconds"))
        })
      ))
    )
})
