import { execFile } from "node:child_process"
import { mkdirSync } from "node:fs"
import { resolve } from "node:path"
import { promisify } from "node:util"
import type { Environment } from "./Subject.js"

const exec = promisify(execFile)

/** Results of a load generator. Times in milliseconds. */
export interface Load {
  readonly calls: number
  readonly ok: number
  readonly rate: number
  readonly p50: number
  readonly p99: number
  /** CPU of the generator for each call, in microseconds. */
  readonly cpu: number
}

export interface Plan {
  readonly target: string
  /** Orders to settle, one call each. */
  readonly orders: { readonly first: number; readonly count: number }
  readonly callers: number
  /** Calls a second; undefined: as fast as they are answered. */
  readonly rate?: number
}

/** Files of callers on an encrypted wire. */
export interface Files {
  readonly ca: string
  readonly token: string
}

export interface Generator {
  readonly name: string
  readonly run: (plan: Plan) => Promise<Load>
}

const answer = async (program: string, args: ReadonlyArray<string>) =>
  JSON.parse((await exec(program, [...args])).stdout) as Load

const go = (program: string, files: Files | undefined): Generator => ({
  name: "bench/load, a Go program",
  run: ({ callers, orders: { count, first }, rate = 0, target }) =>
    answer(
      program,
      Object.entries({ target, first, count, callers, rate, ...files }).map(([name, value]) => `--${name}=${value}`)
    )
})

/** The fallback: a Node process needs several times the CPU of the Go program. */
const node = (files: Files | undefined): Generator => ({
  name: "a Node process, because there is no Go to build bench/load: the figures are lower for all",
  run: (plan) => answer(process.execPath, ["--import", "tsx", "bench/NodeLoad.ts", JSON.stringify({ ...plan, files })])
})

/** The generator for services with these variables: bench/load if Go is installed, else a Node process. */
export const generator = async (env: Environment): Promise<Generator> => {
  const { GRPC_TLS_CA: ca, GRPC_TOKEN_FILE: token } = env
  const files = ca === undefined || token === undefined ? undefined : { ca, token }
  const folder = resolve(".local/bench-tools")
  mkdirSync(folder, { recursive: true })
  const program = `${folder}/load`
  return await exec("go", ["build", "-o", program, "."], { cwd: "bench/load" }).then(
    () => go(program, files),
    () => node(files)
  )
}
