import { assert, layer } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import { spawn } from "node:child_process"
import { chmodSync, cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"

const scripts = fileURLToPath(new URL("../../scripts", import.meta.url))

/** A checkout that compiles in half a second: its only package is a development dependency in a folder beside it. */
const checkout = Effect.acquireRelease(
  Effect.sync(() => {
    const folder = mkdtempSync(join(tmpdir(), "payments-ensure-"))
    const write = (path: string, text: string) => {
      mkdirSync(join(folder, path, ".."), { recursive: true })
      writeFileSync(join(folder, path), text)
    }
    chmodSync(folder, 0o755)
    for (const name of ["ensure.mjs", "lock.mjs"]) cpSync(join(scripts, name), join(folder, "scripts", name))
    const manifest = { name: "checkout", version: "1.0.0", devDependencies: { compiler: "file:compiler" } }
    write("package.json", JSON.stringify(manifest))
    write(
      "package-lock.json",
      JSON.stringify({
        name: "checkout",
        version: "1.0.0",
        lockfileVersion: 3,
        requires: true,
        packages: {
          "": manifest,
          compiler: { version: "1.0.0", dev: true },
          "node_modules/compiler": { resolved: "compiler", link: true }
        }
      })
    )
    write("compiler/package.json", JSON.stringify({ name: "compiler", version: "1.0.0", main: "index.js" }))
    write("compiler/index.js", "module.exports = (source) => source.toUpperCase()")
    write("src/main.ts", "program")
    write("clients/typescript/src/index.ts", "client")
    write("docs/runbook.md", "runbook")
    write(
      "scripts/build.mjs",
      `import { appendFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs"
       import compile from "compiler"
       appendFileSync("builds", "build\\n")
       mkdirSync("dist/bin", { recursive: true })
       writeFileSync("dist/bin/payments.js", compile(readFileSync("src/main.ts", "utf8")))`
    )
    return {
      folder,
      read: (path: string) => readFileSync(join(folder, path), "utf8"),
      write
    }
  }),
  ({ folder }) => Effect.sync(() => rmSync(folder, { recursive: true, force: true }))
)

class Checkout extends Context.Tag("test/Checkout")<Checkout, Effect.Effect.Success<typeof checkout>>() {}

/** Runs scripts/ensure.mjs of a checkout, as another user when `prefix` names one. */
const ensure = (folder: string, env: Readonly<Record<string, string>> = {}, prefix: ReadonlyArray<string> = []) =>
  Effect.async<{ readonly code: number | null; readonly stdout: string; readonly stderr: string }>((resume) => {
    const [command = "", ...args] = [...prefix, process.execPath, join(folder, "scripts/ensure.mjs")]
    const child = spawn(command, args, {
      cwd: tmpdir(),
      env: { PATH: process.env["PATH"], HOME: folder, npm_config_offline: "true", ...env },
      stdio: ["ignore", "pipe", "pipe"]
    })
    let [stdout, stderr] = ["", ""]
    child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text))
    child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text))
    child.on("close", (code) => resume(Effect.succeed({ code, stdout, stderr })))
  })

const done = { code: 0, stdout: "", stderr: "" }

layer(Layer.scoped(Checkout, checkout), { timeout: "120 seconds", excludeTestServices: true })(
  "scripts/ensure.mjs",
  (it) => {
    it.effect("installs and compiles under npm settings that leave packages out, and once for two starts at a time", () =>
      Effect.gen(function*() {
        const { folder, read, write } = yield* Checkout
        const settings = {
          NODE_ENV: "production",
          npm_config_omit: "dev",
          npm_config_ignore_scripts: "true",
          npm_config_package_lock: "false",
          npm_config_install_strategy: "linked",
          npm_config_dry_run: "true",
          npm_config_global: "true"
        }
        const starts = yield* Effect.all([ensure(folder, settings), ensure(folder, settings)], { concurrency: 2 })
        for (const { code, stderr, stdout } of starts) {
          assert.strictEqual(code, 0, stderr)
          assert.strictEqual(stdout, "")
        }
        assert.strictEqual(read("dist/bin/payments.js"), "PROGRAM")
        assert.strictEqual(read("builds"), "build\n")

        assert.deepStrictEqual(yield* ensure(folder, settings), done, "nothing to do")
        write("src/main.ts", "another")
        // a start that was killed has left its lock
        write(".local/ensure.lock/holder", "4194304 of an earlier boot")
        const again = yield* ensure(folder)
        assert.match(again.stderr, /^build +compiled in .* s\n$/)
        assert.strictEqual(read("dist/bin/payments.js"), "ANOTHER")
      }))

    it.scoped("a read-only checkout: silent when it is current, otherwise one line with the command to run", () =>
      Effect.gen(function*() {
        const { folder, write } = yield* Checkout
        const { code, stderr } = yield* ensure(folder)
        assert.strictEqual(code, 0, stderr)
        // root may write anywhere
        const stranger = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]
        const prefix = process.getuid?.() === 0 ? stranger : []
        if (prefix.length === 0) {
          for (const name of [".", ".local", "dist", "node_modules"]) chmodSync(join(folder, name), 0o555)
        }
        yield* Effect.addFinalizer(() =>
          Effect.sync(() => {
            for (const name of [".", ".local", "dist", "node_modules"]) chmodSync(join(folder, name), 0o755)
          })
        )
        assert.deepStrictEqual(yield* ensure(folder, {}, prefix), done)
        write("src/main.ts", "a third")
        const refused = yield* ensure(folder, {}, prefix)
        assert.strictEqual(refused.code, 1)
        assert.match(
          refused.stderr,
          /^build: out of date, and \/.* cannot be written \(E\w+\)\. Run npm start as the owner .*\n$/
        )
      }))
  }
)
