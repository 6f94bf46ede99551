import * as NodeContext from "@effect/platform-node/NodeContext"
import { Effect, Exit, Scope } from "effect"
import { existsSync, readdirSync, rmSync } from "node:fs"
import type { TestProject } from "vitest/node"
import * as Stack from "../../src/local/Stack.js"

declare module "vitest" {
  export interface ProvidedContext {
    databaseUrl: string
    redisUrl: string
    kafkaBrokers: string
  }
}

/** Deletes the data of servers that killed runs have left. The folders are named by the process of the run. */
const sweep = () => {
  if (!existsSync(".local")) return
  for (const name of readdirSync(".local")) {
    const run = Number(/^(?:test-\w+|e2e)-(\d+)/.exec(name)?.[1])
    if (run > 0 && !runs(run)) rmSync(`.local/${name}`, { recursive: true, force: true })
  }
}

const runs = (pid: number) => {
  try {
    return process.kill(pid, 0)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM"
  }
}

/** Real servers for all tests of a run, on free ports and with data of their own, which go when it ends. */
export default async (project: TestProject) => {
  sweep()
  const scope = Effect.runSync(Scope.make())
  const close = () => Effect.runPromise(Scope.close(scope, Exit.void))
  const stack = await Stack.start({
    folder: `.local/test-${project.name}-${process.pid}`,
    cache: ".local/cache",
    ports: { postgres: 0, redis: 0, kafka: 0 },
    throwaway: true,
    onProgress: ({ detail, millis, part, step }) =>
      Effect.sync(() => project.vitest.logger.log(`${part.padEnd(10)}${step} after ${millis} ms  ${detail}`))
  }).pipe(Scope.extend(scope), Effect.provide(NodeContext.layer), Effect.runPromise).catch(async (error) => {
    await close()
    throw error
  })
  project.provide("databaseUrl", stack.databaseUrl!)
  project.provide("redisUrl", stack.redisUrl!)
  project.provide("kafkaBrokers", stack.kafkaBrokers!)
  return close
}
