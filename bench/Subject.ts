import { Effect } from "effect"
import type { ChildProcess } from "node:child_process"
import { spawn } from "node:child_process"
import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import * as Ports from "../src/local/Ports.js"
import { until } from "./Clock.js"

const root = fileURLToPath(new URL("..", import.meta.url))

/** The Node of the subjects. */
let node = process.execPath

/** Runs the subjects that start from now on under this Node. */
export const runUnder = (program: string) => {
  node = program
}

export type Environment = Readonly<Record<string, string>>

/** A measured program, and how to start it. */
export interface Subject {
  readonly name: string
  readonly args: ReadonlyArray<string>
  readonly env: Environment
  /** How it reports that it is ready: on /readyz or on standard output. */
  readonly tells: "readyz" | "ready"
}

/** The compiled program with these parts (none: all). */
export const ours = (...parts: ReadonlyArray<string>): Subject => ({
  name: "payments",
  args: [`${root}dist/bin/payments.js`, "serve", ...parts],
  env: {},
  tells: "readyz"
})

/** The same with exactly-once delivery. */
export const exactlyOnce = (...parts: ReadonlyArray<string>): Subject => ({
  ...ours(...parts),
  name: "payments, exactly-once",
  env: { OUTBOX_DELIVERY: "exactly-once" }
})

/** A hand-written program of `bench/floors`, in one of its forms. */
export const floor = (file: string, form: string, env: Environment = {}): Subject => ({
  name: form,
  args: ["--import", "tsx", `${root}bench/floors/${file}.ts`, form],
  env,
  tells: "ready"
})

/** A running, ready subject. */
export interface Running {
  readonly pid: number
  /** `host:port`, of what serves gRPC. */
  readonly grpc: string
  /** Resident memory in MB. */
  readonly memory: () => number
  /** Stops it (`SIGSTOP`) until the returned function runs, to prepare work meanwhile. */
  readonly pause: () => void
  readonly resume: () => void
  readonly stop: () => Promise<void>
}

const freePort = () => Effect.runPromise(Effect.scoped(Ports.free))

const memoryOf = (pid: number) => {
  try {
    return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))![1]) / 1024
  } catch {
    return Number.NaN
  }
}

const children = new Set<ChildProcess>()
process.on("exit", () => children.forEach((child) => child.kill("SIGKILL")))

/** Starts a subject and waits until it is ready. */
export const start = async (subject: Subject, env: Environment): Promise<Running> => {
  const [grpc, http] = [`127.0.0.1:${await freePort()}`, `127.0.0.1:${await freePort()}`]
  const child = spawn(node, [...subject.args], {
    cwd: root,
    env: { PATH: process.env["PATH"], LOG_LEVEL: "Warning", GRPC_ADDR: grpc, HTTP_ADDR: http, ...env, ...subject.env },
    stdio: ["ignore", "pipe", "pipe"]
  })
  children.add(child)
  let [said, errors, ended] = ["", "", false]
  child.stdout.setEncoding("utf8").on("data", (text: string) => (said += text))
  child.stderr.setEncoding("utf8").on("data", (text: string) => (errors = (errors + text).slice(-4_000)))
  const closed = new Promise<void>((resolve) =>
    child.once("close", () => {
      ended = true
      children.delete(child)
      resolve()
    })
  )
  const isReady = async () => {
    if (ended) throw new Error(`${subject.name} ended: ${errors}`)
    if (subject.tells === "ready") return said.includes("ready")
    return await fetch(`http://${http}/readyz`).then((_) => _.ok, () => false)
  }
  await until(`${subject.name} to be ready`, 40, isReady, 5)
  const pid = child.pid!
  return {
    pid,
    grpc,
    memory: () => memoryOf(pid),
    pause: () => void child.kill("SIGSTOP"),
    resume: () => void child.kill("SIGCONT"),
    stop: async () => {
      child.kill("SIGCONT")
      child.kill("SIGTERM")
      const timer = setTimeout(() => child.kill("SIGKILL"), 10_000)
      await closed
      clearTimeout(timer)
    }
  }
}
