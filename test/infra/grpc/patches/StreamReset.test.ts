import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { spawn } from "node:child_process"
import { fileURLToPath } from "node:url"

const script = fileURLToPath(new URL("./twoResets.ts", import.meta.url))

/** Runs the script. Gives what it printed, until it ends or until it has said nothing for a second after `resetting`. */
const run = (...args: ReadonlyArray<string>) =>
  Effect.async<string>((resume) => {
    const child = spawn(process.execPath, ["--import", "tsx", script, ...args])
    let output = ""
    // an unpatched process fills its memory: it has to end
    const kill = () => child.kill("SIGKILL")
    child.stdout.on("data", (chunk) => {
      output += String(chunk)
      if (output.includes("resetting")) setTimeout(kill, 1000).unref()
    })
    child.once("close", () => resume(Effect.succeed(output)))
    return Effect.sync(kill)
  })

describe("a stream that is reset while its session reads", () => {
  it.live("kills the process without the patch", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* run("0"), "resetting\n")
    }), 30_000)

  for (const [how, code] of [["0", 0], ["2", 2], ["8", 8], ["destroy", 8]] as const) {
    it.live(`is reset with code ${code} afterwards (${how})`, () =>
      Effect.gen(function*() {
        assert.strictEqual(yield* run(how, "patched"), `resetting\nthe peer saw code ${code}\n`)
      }), 30_000)
  }
})
