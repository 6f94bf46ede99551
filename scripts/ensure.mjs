// Runs before the program and the tests: installs the packages of package-lock.json, and compiles src/ to dist/.
// Prints nothing when both are current. Prints to standard error, because a program may read standard output.
// Uses only Node's own modules, because it runs before anything is installed.
import { spawn } from "node:child_process"
import { createHash } from "node:crypto"
import { createWriteStream, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { acquire } from "./lock.mjs"

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const inRoot = (path) => join(root, path)
const say = (line) => process.stderr.write(`${line}\n`)

/** A problem and its solution, in one line for the user. */
class Obstacle extends Error {}

const oldest = [20, 19]
const [major, minor] = process.versions.node.split(".").map(Number)

/** One hash of the names and contents of files and of everything in folders. */
const hashOf = (...paths) => {
  const hash = createHash("sha256")
  const add = (path) => hash.update(`${path}\0`).update(readFileSync(inRoot(path))).update("\0")
  for (const path of paths) {
    if (!path.endsWith("/")) add(path)
    else {
      const entries = readdirSync(inRoot(path), { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())
      entries.map((entry) => join(entry.parentPath ?? entry.path, entry.name).slice(root.length + 1)).sort().forEach(add)
    }
  }
  return hash.digest("hex")
}

/** Packages may contain programs for one platform only. */
const platform = () => {
  if (process.platform !== "linux") return `${process.platform}-${process.arch}`
  process.report.excludeNetwork = true
  return `linux-${process.arch}-${process.report.getReport().header.glibcVersionRuntime ? "glibc" : "musl"}`
}

/** npm's list of installed packages. npm writes it last, so an interrupted npm leaves none. */
const installed = "node_modules/.package-lock.json"

const steps = [
  {
    name: "dependencies",
    doing: "installing",
    done: "installed",
    // The flags override npm settings that would leave out packages which compiling and the local stack need. No package needs
    // its install script. Without --prefix npm would look for a workspace above this folder.
    command: [
      "npm",
      "ci",
      "--prefix",
      root,
      "--include=dev",
      "--include=optional",
      "--include=peer",
      "--ignore-scripts",
      "--bin-links",
      "--package-lock",
      "--install-strategy=hoisted",
      "--no-global",
      "--no-workspaces",
      "--no-dry-run",
      "--no-package-lock-only",
      "--no-legacy-peer-deps",
      "--no-strict-peer-deps",
      "--no-audit",
      "--no-fund"
    ],
    wayOut: "Look at the lines above; npm needs its registry for this.",
    stamp: "node_modules/.ensured",
    // includes npm's own list, to notice later changes by npm
    state: () => existsSync(inRoot(installed)) ? `${platform()} ${hashOf("package-lock.json", installed)}` : "",
    isWhole: () =>
      Object.keys(JSON.parse(readFileSync(inRoot(installed), "utf8")).packages).every((path) => existsSync(inRoot(path)))
  },
  {
    name: "build",
    doing: "compiling",
    done: "compiled",
    command: [process.execPath, inRoot("scripts/build.mjs")],
    wayOut: "If packages are missing: npm ci --include=dev",
    stamp: "dist/.ensured",
    state: () => hashOf("src/", "clients/typescript/src/", "docs/runbook.md", "scripts/build.mjs", "package-lock.json"),
    isWhole: () => existsSync(inRoot("dist/bin/payments.js"))
  }
]

const isFresh = ({ isWhole, stamp, state }) => {
  try {
    return readFileSync(inRoot(stamp), "utf8") === state() && isWhole()
  } catch {
    // an unreadable stamp or list: run the step again
    return false
  }
}

/** Runs a command in the checkout, writes its output to a log file, and returns its exit code. */
const run = ([command, ...args], log) =>
  new Promise((resolve) => {
    const output = createWriteStream(log)
    const child = spawn(command, args, { cwd: root, stdio: ["ignore", "pipe", "pipe"] })
    child.stdout.pipe(output, { end: false })
    child.stderr.pipe(output, { end: false })
    child.on("error", (error) =>
      output.end(error.code === "ENOENT" ? `${command} is not on PATH\n` : `${error}\n`, () => resolve(1)))
    child.on("close", (code) => output.end(() => resolve(code ?? 1)))
  })

const ensure = async (step) => {
  const log = inRoot(join(".local", `${step.name}.log`))
  const since = performance.now()
  rmSync(inRoot(step.stamp), { force: true })
  // a source file that changes during the build makes the build run again
  const before = step.state()
  if (process.stderr.isTTY) process.stderr.write(`${step.name.padEnd(14)}${step.doing} …`)
  const code = await run(step.command, log)
  if (process.stderr.isTTY) process.stderr.write("\r\x1b[K")
  const seconds = ((performance.now() - since) / 1000).toFixed(1)
  if (code !== 0) {
    say(readFileSync(log, "utf8").trimEnd())
    throw new Obstacle(`${step.name}: ${step.doing} failed after ${seconds} s; the whole output is in ${log}. ${step.wayOut}`)
  }
  mkdirSync(dirname(inRoot(step.stamp)), { recursive: true })
  writeFileSync(inRoot(step.stamp), step.name === "build" ? before : step.state())
  say(`${step.name.padEnd(14)}${step.done} in ${seconds} s`)
}

const unwritable = new Set(["EACCES", "EPERM", "EROFS"])

/** The error in one line, or with its stack if it is a bug. */
const describe = (error) => {
  if (error instanceof Obstacle) return error.message
  if (unwritable.has(error.code)) {
    const stale = steps.filter((step) => !isFresh(step)).map(({ name }) => name).join(", ")
    return `${stale}: out of date, and ${error.path} cannot be written (${error.code}). ` +
      "Run npm start as the owner of this folder, or in a copy that you may write to."
  }
  if (error.code === "ENOSPC" || error.code === "EDQUOT") return `${error.path ?? root}: the disk is full.`
  return error.stack
}

try {
  if (major < oldest[0] || (major === oldest[0] && minor < oldest[1])) {
    throw new Obstacle(
      `This needs Node ${oldest.join(".")} or newer, and this is Node ${process.versions.node}. ` +
        "Install it from https://nodejs.org, or with `nvm install`, or use `nix develop`."
    )
  }
  if (!steps.every(isFresh)) {
    mkdirSync(inRoot(".local"), { recursive: true })
    const release = await acquire(inRoot(".local/ensure.lock"), say)
    try {
      for (const step of steps) if (!isFresh(step)) await ensure(step)
    } finally {
      release()
    }
  }
} catch (error) {
  say(describe(error))
  process.exit(1)
}
