import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { spawn } from "node:child_process"
import { fileURLToPath } from "node:url"

const script = fileURLToPath(new URL("./twoResets.ts", import.meta.url))

/** Returns the output of the script. Ends the script one second after `resetting` when it hangs. */
const run = (...args: ReadonlyArray<string>) =>
  Effect.async<string>((resume) => {
    // an unpatched process fills its memory: the system ends it after ten seconds of CPU, also when this test has died
    const command = ["-c", "ulimit -t 10; exec \"$0\" \"$@\"", process.execPath, "--import", "tsx", script, ...args]
    const child = spawn("sh", command)
    let output = ""
    const kill = () => child.kill("SIGKILL")
    child.stdout.on("data", (chunk) => {
      output += String(chunk)
      if (output.includes("resetting")) setTimeout(kill, 1000).unref()
    })
    child.once("close", () => resume(Effect.succeed(output)))
    return Effect.sync(kill)
  })

describe("a reset of a stream while its session reads", () => {
  it.live("ends or blocks the process without the patch", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* run("0"), "resetting\n")
    }), 30_000)

  for (const [how, code] of [["0", 0], ["2", 2], ["8", 8], ["destroy", 8]] as const) {
    it.live(`reaches the peer with code ${code} with the patch (${how})`, () =>
      Effect.gen(function*() {
        assert.strictEqual(yield* run(how, "patched"), `resetting\nthe peer saw code ${code}\n`)
      }), 30_000)
  }
})
