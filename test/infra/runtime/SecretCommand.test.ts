import { assert, describe, it } from "@effect/vitest"
import { Effect, Redacted } from "effect"
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { Secret } from "../../../src/infra/runtime/Secret.js"
import * as SecretCommand from "../../../src/infra/runtime/SecretCommand.js"
import { eventually } from "../../harness/Eventually.js"

const secretOf = (command: string, limit = "9 seconds" as "9 seconds" | "100 millis") =>
  SecretCommand.make({ variable: "DATABASE_PASSWORD_COMMAND", command, limit })
const valueOf = ({ get }: Secret) => Effect.map(get, Redacted.value)

const folder = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "secret-command-"))),
  (path) => Effect.sync(() => rmSync(path, { recursive: true }))
)

describe("SecretCommand", () => {
  it.scopedLive("gives what the command prints now, without line ends, and never what a failed run printed", () =>
    Effect.gen(function*() {
      const file = join(yield* folder, "secret")
      const secret = secretOf(`cat ${file}`)
      for (const text of ["one", "two"]) {
        writeFileSync(file, `${text}\r\n`)
        assert.strictEqual(yield* valueOf(secret), text)
      }
      const cases = {
        "echo hush; echo hush >&2; exit 3": "ended with exit code 3",
        "kill -9 $$": "ended with SIGKILL",
        "no-such-program-here": "ended with exit code 127",
        "true": "printed nothing",
        "yes": "printed more than 65536 bytes"
      }
      for (const [command, problem] of Object.entries(cases)) {
        const { message } = yield* Effect.flip(secretOf(command).get)
        assert.strictEqual(message, `DATABASE_PASSWORD_COMMAND ${problem}`)
      }
    }))

  it.scopedLive("ends a command that takes too long, with its children", () =>
    Effect.gen(function*() {
      const file = join(yield* folder, "pid")
      const late = secretOf(`sleep 60 & echo $! > ${file}; wait`, "100 millis")
      assert.match((yield* Effect.flip(late.get)).message, /did not end in time/)
      const pid = Number(readFileSync(file, "utf8"))
      yield* Effect.sync(() => assert.throws(() => process.kill(pid, 0), /ESRCH/)).pipe(eventually("5 seconds"))
    }))

  it.scopedLive("callers at the same time share a run that begins after they came", () =>
    Effect.gen(function*() {
      const file = join(yield* folder, "runs")
      const secret = secretOf(`echo run >> ${file}; wc -l < ${file}`)
      const all = yield* Effect.all(Array.from({ length: 10 }, () => valueOf(secret)), { concurrency: "unbounded" })
      assert.deepStrictEqual(new Set(all.map(Number)), new Set([1]))
      const first = yield* Effect.fork(valueOf(secret))
      yield* Effect.yieldNow()
      yield* Effect.sync(() => assert.lengthOf(readFileSync(file, "utf8").trim().split("\n"), 2)).pipe(eventually())
      assert.isAbove(Number(yield* valueOf(secret)), Number(yield* first))
    }))
})
