// Tools of the checks, from the registries of packages. They lie in .local/cache/tools and are fetched once.
// A tool that cannot be had is no failure: its checks are "not checked", with the reason.
import { spawnSync } from "node:child_process"
import { createHash } from "node:crypto"
import { existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"

export const root = dirname(dirname(fileURLToPath(import.meta.url)))
const cache = join(root, ".local/cache/tools")

/** Runs a command in the checkout. `code` is null when it does not exist or took too long; `output` is all that it said. */
export const run = (command, args, { timeout = 120_000, ...options } = {}) => {
  const { error, signal, status, stderr, stdout } = spawnSync(command, args, {
    cwd: root,
    encoding: "utf8",
    timeout,
    maxBuffer: 64 * 1024 * 1024,
    ...options
  })
  const problem = error?.code === "ENOENT" ? `${command} is not on PATH\n` : signal ? `${command} took longer than ${timeout / 1000} s\n` : ""
  return { code: error === undefined || error.code === "ENOBUFS" ? status : null, output: `${stdout ?? ""}${stderr ?? ""}${problem}`, stdout: stdout ?? "" }
}

/** True when the command exists and answers with exit code 0. */
export const has = (command, args) => run(command, args, { timeout: 20_000 }).code === 0

const lastLine = (text) => text.trim().split("\n").at(-1) ?? ""

/**
 * The folder of these tools, filled by `install` unless it is complete already; or why it could not be filled. `place`: where
 * the tools work, if they do not work in a copy of the cache elsewhere.
 */
const installed = (name, versions, install, place = "") => {
  const folder = join(cache, `${name}-${createHash("sha256").update(versions.join() + place).digest("hex").slice(0, 8)}`)
  const complete = join(folder, ".complete")
  if (existsSync(complete)) return { folder }
  process.stderr.write(`fetching ${versions.join(", ")} …\n`)
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  for (const [command, args, options] of install(folder)) {
    const { code, output } = run(command, args, { timeout: 600_000, ...options })
    if (code !== 0) return { reason: `${command} could not fetch ${versions.join(", ")}: ${lastLine(output)}` }
  }
  writeFileSync(complete, "")
  return { folder }
}

/** The folder with the programs of packages of PyPI, in an environment of their own. */
export const python = (name, versions) => {
  const { folder, reason } = installed(name, versions, (folder) => [
    ["python3", ["-m", "venv", folder]],
    [join(folder, "bin/pip"), ["install", "--quiet", "--no-compile", "--disable-pip-version-check", ...versions]]
  ], cache)
  return folder === undefined ? { reason } : { bin: join(folder, "bin") }
}

/** The folder of packages of npm, with their node_modules. */
export const npm = (name, versions) =>
  installed(name, versions, (folder) => [
    ["npm", ["install", "--prefix", folder, "--ignore-scripts", "--no-audit", "--no-fund", "--no-save", ...versions]]
  ])

const helmVersion = "v3.22.0"

/** The program helm: that of PATH, or else compiled once with Go (up to four minutes of two cores, and 15 s when Go has it in its cache). */
export const helm = () => {
  if (has("helm", ["version"])) return { program: "helm" }
  if (!has("go", ["version"])) return { reason: "neither helm nor go is on PATH" }
  const { folder, reason } = installed("helm", [`helm.sh/helm/v3@${helmVersion}`], (folder) => [
    ["go", ["install", "-ldflags=-s -w", `helm.sh/helm/v3/cmd/helm@${helmVersion}`], { env: { ...process.env, GOBIN: folder, GOFLAGS: "-mod=mod" } }]
  ])
  return folder === undefined ? { reason } : { program: join(folder, "helm") }
}

/** Counts checks, prints a line for each, and at the end the sum, which decides the exit code. */
export const checks = () => {
  let passed = 0
  let failed = 0
  return {
    /** `verdict` answers undefined, or what is wrong. */
    check: (name, verdict) => {
      const since = performance.now()
      const problem = verdict()
      const seconds = ((performance.now() - since) / 1000).toFixed(1)
      if (problem === undefined) passed++
      else failed++
      console.log(`${problem === undefined ? "ok   " : "FAIL "} ${name} (${seconds} s)`)
      if (problem !== undefined) console.log(problem.trimEnd().replace(/^/gm, "      "))
    },
    notChecked: (name, reason) => console.log(`--    ${name}: not checked, ${reason}`),
    end: () => {
      console.log(`${passed} passed, ${failed} failed`)
      process.exitCode = failed === 0 ? 0 : 1
    }
  }
}

/** A verdict: the command must end with exit code 0. */
export const succeeds = (command, args, options) => () => {
  const { code, output } = run(command, args, options)
  return code === 0 ? undefined : output || `${command} ended with exit code ${code}`
}
