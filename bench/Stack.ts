import * as NodeContext from "@effect/platform-node/NodeContext"
import { Effect, Exit, Scope } from "effect"
import { resolve } from "node:path"
import * as Pg from "pg"
import * as LocalTls from "../src/cli/LocalTls.js"
import * as Holder from "../src/local/Holder.js"
import * as Stack from "../src/local/Stack.js"
import type { Environment } from "./Subject.js"

/** Addresses of the bench's servers. */
export interface Servers {
  readonly databaseUrl: string
  readonly redisUrl: string
  readonly brokers: string
  /** Variables of services and of their callers, but for the addresses. Empty: nothing is encrypted. */
  readonly env: Environment
  /** Their processes. */
  readonly pids: { readonly postgres: number; readonly kafka: number }
}

const folders = { plain: ".local/bench", encrypted: ".local/bench-tls" } as const

/** Settings that must be on, or the figures mean nothing. */
const durable = ["fsync", "synchronous_commit", "full_page_writes"]

const checkDurability = async (databaseUrl: string) => {
  const client = new Pg.Client(databaseUrl)
  await client.connect()
  for (const setting of durable) {
    const value = Object.values((await client.query(`SHOW ${setting}`)).rows[0] as Record<string, string>)[0]
    if (value !== "on") throw new Error(`${setting} is ${value}: these figures would be worth nothing`)
  }
  await client.end()
}

/**
 * Runs `use` with separate servers, as durable as in production. `encrypted` starts others beside them, which speak TLS.
 * Deletes their data before and after.
 */
export const withServers = async (
  say: (line: string) => void,
  { encrypted }: { readonly encrypted: boolean },
  use: (servers: Servers, encrypted: Servers | undefined) => Promise<void>
) => {
  const scope = Effect.runSync(Scope.make())
  const run = <A, E>(effect: Effect.Effect<A, E, NodeContext.NodeContext>) =>
    Effect.runPromise(Effect.provide(effect, NodeContext.layer))
  const reset = () => run(Effect.forEach(Object.values(folders), (folder) => Effect.ignore(Holder.reset(folder))))
  const started = async (folder: string, tls?: LocalTls.LocalTls): Promise<Servers> => {
    const stack = await run(
      Stack.start({
        folder,
        cache: ".local/cache",
        ports: { postgres: 0, redis: 0, kafka: 0 },
        onProgress: ({ detail, part, step }) => Effect.sync(() => say(`${part.padEnd(10)}${step}  ${detail}`)),
        ...tls === undefined ? {} : { tls: tls.servers }
      }).pipe(Scope.extend(scope))
    )
    await checkDurability(stack.databaseUrl!)
    return {
      databaseUrl: stack.databaseUrl!,
      redisUrl: stack.redisUrl!,
      brokers: stack.kafkaBrokers!,
      env: tls?.variables ?? {},
      pids: { postgres: stack.parts.postgres!.pid, kafka: stack.parts.kafka!.pid }
    }
  }
  const work = async () => {
    await reset()
    const plain = await started(folders.plain)
    await use(
      plain,
      encrypted
        ? await started(folders.encrypted, await run(LocalTls.make(resolve(".local/bench-tls-files"))))
        : undefined
    )
    return 0
  }
  const interrupted = new Promise<number>((resolve) => {
    for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => resolve(130))
  })
  let code = 1
  try {
    code = await Promise.race([work(), interrupted])
  } finally {
    await Effect.runPromise(Scope.close(scope, Exit.void))
    await reset()
    // otherwise the interrupted work goes on without servers
    if (code === 130) process.exit(code)
  }
}
