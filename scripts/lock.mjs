// A lock between processes that works on every file system: a folder with a file that names its owner. One rename puts it in
// place; the rename fails while a folder that is not empty exists there.
import { spawnSync } from "node:child_process"
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"

/** Start time of a process, which distinguishes it from a later process with the same number. Empty when there is none. */
const startOf = (pid) => {
  try {
    const boot = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim()
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8")
    return `${boot} ${stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19]}`
  } catch {
    if (process.platform === "linux") return ""
    return spawnSync("ps", ["-o", "lstart=", "-p", String(pid)], { encoding: "utf8" }).stdout?.trim() ?? ""
  }
}

/** The owner of the lock; undefined when it is free. */
const ownerOf = (lock) => {
  try {
    const [pid, ...started] = readFileSync(join(lock, "holder"), "utf8").split(" ")
    return { pid: Number(pid), started: started.join(" ") }
  } catch (error) {
    // ENOTDIR: a file that an earlier version left
    if (error.code === "ENOENT" || error.code === "ENOTDIR") return undefined
    throw error
  }
}

const lives = ({ pid, started }) => started !== "" && startOf(pid) === started

/** Removes the lock of a dead owner. If another process has replaced it meanwhile, puts that lock back. */
const removeDead = (lock, mine) => {
  const away = `${mine}.dead`
  try {
    renameSync(lock, away)
  } catch (error) {
    if (error.code === "ENOENT") return
    throw error
  }
  const owner = ownerOf(away)
  if (owner !== undefined && lives(owner)) {
    try {
      renameSync(away, lock)
      return
    } catch (error) {
      if (!taken.has(error.code)) throw error
    }
  }
  rmSync(away, { recursive: true, force: true })
}

/** Errors of a rename onto a folder that exists. */
const taken = new Set(["ENOTEMPTY", "EEXIST", "EISDIR", "ENOTDIR"])

/** Waits for the lock, and after a second names its owner by `say`. Returns the function that releases it. Fails after ten minutes. */
export const acquire = async (lock, say) => {
  const mine = `${lock}.${process.pid}`
  rmSync(mine, { recursive: true, force: true })
  mkdirSync(mine)
  writeFileSync(join(mine, "holder"), `${process.pid} ${startOf(process.pid)}`)
  const since = performance.now()
  let said = false
  try {
    for (;;) {
      try {
        renameSync(mine, lock)
        return () => {
          if (ownerOf(lock)?.pid === process.pid) rmSync(lock, { recursive: true, force: true })
        }
      } catch (error) {
        if (!taken.has(error.code)) throw error
      }
      const owner = ownerOf(lock)
      if (owner === undefined || !lives(owner)) {
        removeDead(lock, mine)
        continue
      }
      const waited = performance.now() - since
      if (waited > 600_000) {
        throw new Error(`process ${owner.pid} has locked ${lock} for ten minutes: end it, or delete that folder`)
      }
      if (waited > 1_000 && !said) {
        say(`waiting for process ${owner.pid}, which installs or compiles in this folder`)
        said = true
      }
      await sleep(100)
    }
  } catch (error) {
    rmSync(mine, { recursive: true, force: true })
    throw error
  }
}
