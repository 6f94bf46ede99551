import { execFile } from "node:child_process"
import { existsSync, mkdirSync, writeFileSync } from "node:fs"
import { resolve } from "node:path"
import { promisify } from "node:util"

const exec = promisify(execFile)

/** What a load generator saw. Times in milliseconds. */
export interface Load {
  readonly calls: number
  readonly ok: number
  readonly rate: number
  readonly p50: number
  readonly p99: number
}

export interface Plan {
  readonly target: string
  /** Orders to settle, one call each. */
  readonly orders: { readonly first: number; readonly count: number }
  readonly callers: number
  /** Calls a second; undefined: as fast as they are answered. */
  readonly rate?: number
}

export interface Generator {
  readonly name: string
  readonly run: (plan: Plan) => Promise<Load>
}

const folder = resolve(".local/bench-tools")

interface Report {
  readonly count: number
  readonly rps: number
  readonly statusCodeDistribution: Record<string, number>
  readonly latencyDistribution: ReadonlyArray<{ readonly percentage: number; readonly latency: number }>
}

const ghz = (program: string): Generator => ({
  name: "ghz",
  run: async ({ callers, orders, rate, target }) => {
    const data = `${folder}/calls-${process.pid}.json`
    const calls = Array.from({ length: orders.count }, (_, i) => `{"order_id":"${orders.first + i}","status":true}`)
    writeFileSync(data, `[${calls.join(",")}]`)
    const options = {
      proto: resolve("proto/payments.proto"),
      call: "paymentsapi.PaymentsApi.UpdatePaymentStatus",
      "data-file": data,
      total: orders.count,
      concurrency: callers,
      connections: Math.min(4, callers),
      ...(rate === undefined ? {} : { rps: rate }),
      timeout: "20s",
      format: "json"
    }
    const args = Object.entries(options).map(([name, value]) => `--${name}=${value}`)
    const { stdout } = await exec(program, ["--insecure", ...args, target], { maxBuffer: 1 << 28 })
    const report = JSON.parse(stdout) as Report
    const latency = (percentage: number) =>
      (report.latencyDistribution.find((_) => _.percentage === percentage)?.latency ?? Number.NaN) / 1e6
    return {
      calls: report.count,
      ok: report.statusCodeDistribution["OK"] ?? 0,
      rate: report.rps,
      p50: latency(50),
      p99: latency(99)
    }
  }
})

/** The last resort: another Node process costs several times as much of the machine as the others. */
const node: Generator = {
  name: "a Node process (ghz is not here: `go install github.com/bojand/ghz/cmd/ghz@latest`)",
  run: async (plan) => {
    const { stdout } = await exec(process.execPath, ["--import", "tsx", "bench/NodeLoad.ts", JSON.stringify(plan)])
    return JSON.parse(stdout) as Load
  }
}

const works = (program: string) => exec(program, ["--version"]).then(() => true, () => false)

/** ghz from PATH, from an earlier bench, or built with Go. */
export const generator = async (say: (line: string) => void): Promise<Generator> => {
  mkdirSync(folder, { recursive: true })
  if (await works("ghz")) return ghz("ghz")
  const own = `${folder}/ghz`
  if (!existsSync(own)) {
    say("ghz is not on PATH: building it with Go, once")
    const built = await exec("go", ["install", "github.com/bojand/ghz/cmd/ghz@v0.93.0"], {
      env: { ...process.env, GOBIN: folder }
    }).then(() => true, () => false)
    if (!built) {
      say("there is no Go that could; the load comes from a Node process, and the figures are lower for all")
      return node
    }
  }
  return ghz(own)
}
