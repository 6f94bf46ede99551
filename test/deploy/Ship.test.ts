import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { spawnSync } from "node:child_process"
import { mkdtempSync, readdirSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"

const script = fileURLToPath(new URL("../../scripts/ship.mjs", import.meta.url))
const node = (...args: ReadonlyArray<string>) =>
  spawnSync(process.execPath, args, {
    cwd: tmpdir(),
    encoding: "utf8",
    env: { PATH: process.env["PATH"] }
  })

const folder = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "payments-ship-"))),
  (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true }))
)

describe("scripts/ship.mjs", () => {
  it.scoped("what it copies is enough for the program, and has no types, maps or packages that are in the bundle", () =>
    Effect.gen(function*() {
      const to = join(yield* folder, "shipped")
      const copied = node(script, to)
      assert.strictEqual(copied.status, 0, copied.stderr)
      const files = readdirSync(to, { recursive: true }).map(String)
      assert.deepStrictEqual(files.filter((file) => /\.(map|md|ts|mts|cts)$/.test(file)), [])
      assert.notInclude(files, "node_modules/effect")
      assert.notInclude(files, "node_modules/vitest")
      assert.include(files, "node_modules/kafkajs/LICENSE")
      // each command loads all packages but jose
      const ran = node(
        join(to, "dist/bin/payments.js"),
        "token",
        "create",
        "--name",
        "orders",
        "--scopes",
        "payments:read"
      )
      assert.strictEqual(ran.status, 0, ran.stderr)
      const jose = node("--input-type=module", "-e", `await import("${to}/node_modules/jose/dist/webapi/index.js")`)
      assert.strictEqual(jose.status, 0, jose.stderr)
      const again = node(script, to)
      assert.strictEqual(again.status, 2)
      assert.include(again.stderr, "exists: name a new folder")
    }))
})
