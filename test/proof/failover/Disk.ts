import { Effect } from "effect"
import { execFileSync } from "node:child_process"
import { closeSync, mkdirSync, openSync, rmSync, writeSync } from "node:fs"

/** A file system in memory, which goes with the scope. It needs the right to mount. */
export const small = Effect.fnUntraced(function*(folder: string, megabytes: number) {
  yield* Effect.acquireRelease(
    Effect.sync(() => {
      mkdirSync(folder, { recursive: true })
      execFileSync("mount", ["-t", "tmpfs", "-o", `size=${megabytes}m,mode=777`, "tmpfs", folder])
    }),
    () =>
      Effect.sync(() => {
        execFileSync("umount", ["-l", folder])
        rmSync(folder, { recursive: true, force: true })
      })
  )
  const filler = `${folder}/filler`
  return {
    /** Takes all the room that is left. */
    fill: Effect.sync(() => {
      const file = openSync(filler, "w")
      try {
        for (let size = 1 << 20; size >= 4_096; size = size >> 1) {
          try {
            for (;;) writeSync(file, Buffer.alloc(size, 1))
          } catch (error) {
            if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error
          }
        }
      } finally {
        closeSync(file)
      }
    }),
    free: Effect.sync(() => rmSync(filler, { force: true }))
  } as const
})

/** Whether this process may mount. */
export const canMount = (() => {
  try {
    execFileSync("unshare", ["-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], { stdio: "ignore" })
    return process.getuid?.() === 0
  } catch {
    return false
  }
})()
