// A lock between processes that works on every file system: a folder that holds its owner's name is put in place by one
// rename, which fails while a folder with anything in it is there.
import { spawnSync } from "node:child_process"
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"

/** What tells a process from another one that has its number later: when it started. Empty when there is none. */
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

/** Who holds the lock: none when it is free. */
const holder = (lock) => {
  try {
    const [pid, ...started] = readFileSync(join(lock, "holder"), "utf8").split(" ")
    return { pid: Number(pid), started: started.join(" ") }
  } catch (error) {
    // ENOTDIR: a file, as earlier versions left one
    if (error.code === "ENOENT" || error.code === "ENOTDIR") return undefined
    throw error
  }
}

const lives = ({ pid, started }) => started !== "" && startOf(pid) === started

/** Takes the lock of a holder that died away. Another process may have done so meanwhile: its lock is put back. */
const takeAway = (lock, mine) => {
  const away = `${mine}.dead`
  try {
    renameSync(lock, away)
  } catch (error) {
    if (error.code === "ENOENT") return
    throw error
  }
  const owner = holder(away)
  if (owner !== undefined && lives(owner)) {
    try {
      renameSync(away, lock)
      return
    } catch (error) {
      if (!held.has(error.code)) throw error
    }
  }
  rmSync(away, { recursive: true, force: true })
}

/** How rename says that something is there. */
const held = new Set(["ENOTEMPTY", "EEXIST", "EISDIR", "ENOTDIR"])

/** Waits for the lock, and says for whom after a second. Answers how to give it back. Fails after ten minutes. */
export const acquire = async (lock, say) => {
  const mine = `${lock}.${process.pid}`
  rmSync(mine, { recursive: true, force: true })
  mkdirSync(mine)
  writeFileSync(join(mine, "holder"), `${process.pid} ${startOf(process.pid)}`)
  const since = performance.now()
  let told = false
  try {
    for (;;) {
      try {
        renameSync(mine, lock)
        return () => {
          if (holder(lock)?.pid === process.pid) rmSync(lock, { recursive: true, force: true })
        }
      } catch (error) {
        if (!held.has(error.code)) throw error
      }
      const owner = holder(lock)
      if (owner === undefined || !lives(owner)) {
        takeAway(lock, mine)
        continue
      }
      const waited = performance.now() - since
      if (waited > 600_000) {
        throw new Error(`process ${owner.pid} has held ${lock} for ten minutes: end it, or delete that folder`)
      }
      if (waited > 1_000 && !told) {
        say(`waiting for process ${owner.pid}, which installs or compiles here`)
        told = true
      }
      await sleep(100)
    }
  } catch (error) {
    rmSync(mine, { recursive: true, force: true })
    throw error
  }
}
