// Runs before the program and the tests: what package-lock.json names is installed, and dist/ is compiled from src/.
// Says nothing when there is nothing to do; what it says goes to standard error, for the output may be read by a program.
// Uses Node's own modules only, because it runs before anything is installed.
import { spawn } from "node:child_process"
import { createHash } from "node:crypto"
import { createWriteStream, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { acquire } from "./lock.mjs"

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const inRoot = (path) => join(root, path)
const say = (line) => process.stderr.write(`${line}\n`)

/** One line that says what stands in the way, and what to do. */
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

/** Packages may hold programs for one kind of machine only. */
const platform = () => {
  if (process.platform !== "linux") return `${process.platform}-${process.arch}`
  process.report.excludeNetwork = true
  return `linux-${process.arch}-${process.report.getReport().header.glibcVersionRuntime ? "glibc" : "musl"}`
}

/** What npm has written down of what it installed; it is written last, so an interrupted npm leaves none. */
const installed = "node_modules/.package-lock.json"

const steps = [
  {
    name: "dependencies",
    doing: "installing",
    done: "installed",
    // What is needed to compile and to run the local stack, whatever npm's own settings leave out. Nothing here needs an
    // install script. The folder is named, or npm would look for a workspace above it.
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
    // npm's own list is in it: whatever npm has changed since is seen
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
    state: () => hashOf("src/", "scripts/build.mjs", "package-lock.json"),
    isWhole: () => existsSync(inRoot("dist/bin/payments.js"))
  }
]

const isFresh = ({ isWhole, stamp, state }) => {
  try {
    return readFileSync(inRoot(stamp), "utf8") === state() && isWhole()
  } catch {
    // what cannot be read is made again
    return false
  }
}

/** Runs a command in the checkout with its output in a log. */
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
  // of what is compiled the state before: what changes meanwhile makes it run again
  const before = step.state()
  if (process.stderr.isTTY) process.stderr.write(`${step.name.padEnd(14)}${step.doing} …`)
  const code = await run(step.command, log)
  if (process.stderr.isTTY) process.stderr.write("\r\x1b[K")
  const seconds = ((performance.now() - since) / 1000).toFixed(1)
  if (code !== 0) {
    say(readFileSync(log, "utf8").trimEnd())
    throw new Obstacle(`${step.name}: ${step.doing} failed after ${seconds} s; all it said is in ${log}. ${step.wayOut}`)
  }
  mkdirSync(dirname(inRoot(step.stamp)), { recursive: true })
  writeFileSync(inRoot(step.stamp), step.name === "build" ? before : step.state())
  say(`${step.name.padEnd(14)}${step.done} in ${seconds} s`)
}

const unwritable = new Set(["EACCES", "EPERM", "EROFS"])

/** What is wrong, in one line if it is nobody's bug. */
const told = (error) => {
  if (error instanceof Obstacle) return error.message
  if (unwritable.has(error.code)) {
    const stale = steps.filter((step) => !isFresh(step)).map(({ name }) => name).join(", ")
    return `${stale}: not as the sources want it, and ${error.path} cannot be written (${error.code}). ` +
      "Run npm start as the owner of this folder, or in a copy of it that you may write to."
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
  say(told(error))
  process.exit(1)
}
