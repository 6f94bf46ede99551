import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { spawn } from "node:child_process"
import { fileURLToPath } from "node:url"

const script = fileURLToPath(new URL("./twoResets.ts", import.meta.url))

/**
 * Runs the script to its end. Returns its output, and the signal that ended it. An unpatched process loops for ever and
 * fills its memory: the system ends it after 5 seconds of CPU, also when this test has died.
 */
const run = (...args: ReadonlyArray<string>) =>
  Effect.async<{ readonly output: string; readonly signal: NodeJS.Signals | null }>((resume) => {
    const command = ["-c", "ulimit -t 5; exec \"$0\" \"$@\"", process.execPath, "--import", "tsx", script, ...args]
    const child = spawn("sh", command, { stdio: ["ignore", "pipe", "inherit"] })
    let output = ""
    child.stdout.on("data", (chunk) => {
      output += String(chunk)
    })
    child.once("close", (_code, signal) => resume(Effect.succeed({ output, signal })))
    return Effect.sync(() => child.kill("SIGKILL"))
  })

describe("a reset of a stream while its session reads", () => {
  // later releases of Node 22, 24 and 26 have the fix
  it.live("ends or blocks the process without the patch, or Node has the fix", () =>
    Effect.gen(function*() {
      const { output, signal } = yield* run("0")
      if (signal === null && Number.parseInt(process.versions.node) >= 22) {
        return assert.strictEqual(output, "resetting\nthe peer saw code 0\n")
      }
      assert.strictEqual(output, "resetting\n")
      assert.isNotNull(signal)
    }), 60_000)

  for (const [how, code] of [["0", 0], ["2", 2], ["8", 8], ["destroy", 8]] as const) {
    it.live(`reaches the peer with code ${code} with the patch (${how})`, () =>
      Effect.gen(function*() {
        const output = `resetting\nthe peer saw code ${code}\n`
        assert.deepStrictEqual(yield* run(how, "patched"), { output, signal: null })
      }), 60_000)
  }
})
