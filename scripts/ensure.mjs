// Runs before `npm start` and `npm test`: what is installed is what package-lock.json says, and dist/ is what src/ says.
// Says nothing when there is nothing to do. Only what Node brings, for it runs before anything is installed.
import { spawn } from "node:child_process"
import { createHash } from "node:crypto"
import { createWriteStream, existsSync, linkSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { fileURLToPath } from "node:url"

const root = dirname(dirname(fileURLToPath(import.meta.url)))
process.chdir(root)

const oldest = [20, 19]
const [major, minor] = process.versions.node.split(".").map(Number)
if (major < oldest[0] || (major === oldest[0] && minor < oldest[1])) {
  console.error(`This needs Node ${oldest.join(".")} or newer, and this is Node ${process.versions.node}.`)
  console.error("Three ways on: install it from https://nodejs.org, `nvm install`, or `nix develop`.")
  process.exit(1)
}

/** One hash of the names and contents of files and of everything in folders. */
const hashOf = (...paths) => {
  const hash = createHash("sha256")
  const add = (path) => hash.update(`${path}\0`).update(readFileSync(path)).update("\0")
  for (const path of paths) {
    if (!path.endsWith("/")) add(path)
    else {
      const entries = readdirSync(path, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())
      entries.map((entry) => join(entry.parentPath ?? entry.path, entry.name)).sort().forEach(add)
    }
  }
  return hash.digest("hex")
}

const steps = [
  {
    name: "dependencies",
    doing: "installing",
    done: "installed",
    command: ["npm", "ci", "--no-audit", "--no-fund"],
    stamp: "node_modules/.ensured",
    inputs: ["package-lock.json"]
  },
  {
    name: "build",
    doing: "compiling",
    done: "compiled",
    command: ["npm", "run", "build"],
    stamp: "dist/.ensured",
    inputs: ["src/", "scripts/build.mjs", "package-lock.json"]
  }
]

const isFresh = ({ inputs, stamp }) => existsSync(stamp) && readFileSync(stamp, "utf8") === hashOf(...inputs)

/** Runs a command with its output in a log, which is shown when it fails. */
const run = ([command, ...args], log) =>
  new Promise((resolve) => {
    const output = createWriteStream(log)
    const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"] })
    child.stdout.pipe(output, { end: false })
    child.stderr.pipe(output, { end: false })
    child.on("error", (error) => output.end(String(error), () => resolve(1)))
    child.on("close", (code) => output.end(() => resolve(code ?? 1)))
  })

const ensure = async (step) => {
  // before the command: what changes while it runs must make it run again
  const hash = hashOf(...step.inputs)
  const since = performance.now()
  const log = join(".local", `${step.name}.log`)
  rmSync(step.stamp, { force: true })
  if (process.stdout.isTTY) process.stdout.write(`${step.name.padEnd(14)}${step.doing} …`)
  const code = await run(step.command, log)
  if (process.stdout.isTTY) process.stdout.write("\r\x1b[K")
  const seconds = ((performance.now() - since) / 1000).toFixed(1)
  if (code !== 0) {
    console.error(readFileSync(log, "utf8"))
    console.error(`${step.name.padEnd(14)}failed after ${seconds} s: ${step.command.join(" ")}; its output is in ${log}`)
    return false
  }
  mkdirSync(dirname(step.stamp), { recursive: true })
  writeFileSync(step.stamp, hash)
  console.log(`${step.name.padEnd(14)}${step.done} in ${seconds} s`)
  return true
}

const lock = join(".local", "ensure.lock")
const mine = `${lock}.${process.pid}`

/** The process that is at it now. None when it died without removing its lock. */
const holder = () => {
  try {
    const pid = Number(readFileSync(lock, "utf8"))
    process.kill(pid, 0)
    return pid
  } catch (error) {
    if (error.code === "ESRCH") rmSync(lock, { force: true })
    return undefined
  }
}

/** `npm start` and `npm test` may begin together: one of them works, the other waits. A link appears with its content. */
const acquire = async () => {
  mkdirSync(".local", { recursive: true })
  writeFileSync(mine, String(process.pid))
  for (const since = performance.now();;) {
    try {
      linkSync(mine, lock)
      return
    } catch (error) {
      if (error.code !== "EEXIST") throw error
    }
    const pid = holder()
    if (performance.now() - since > 600_000) {
      throw new Error(`process ${pid} has held ${lock} for ten minutes: end it, or delete the file`)
    }
    await sleep(100)
  }
}

if (!steps.every(isFresh)) {
  try {
    await acquire()
    for (const step of steps) {
      if (!isFresh(step) && !(await ensure(step))) {
        process.exitCode = 1
        break
      }
    }
  } finally {
    rmSync(mine, { force: true })
    if (holder() === process.pid) rmSync(lock)
  }
}
