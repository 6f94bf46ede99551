import { assert, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Zlib from "node:zlib"
import { services, start } from "../admin/Harness.js"
import * as PgTest from "../harness/PgTest.js"

const script = "console.log('a page')\n".repeat(100)

const folder = Effect.acquireRelease(
  Effect.sync(() => {
    const path = mkdtempSync(join(tmpdir(), "pages-"))
    mkdirSync(join(path, "assets"))
    writeFileSync(join(path, "index.html"), "<!doctype html><title>Payments</title>")
    writeFileSync(join(path, "assets/app-1a2b3c4d.js"), script)
    writeFileSync(join(path, "assets/app-1a2b3c4d.js.br"), Zlib.brotliCompressSync("from the build"))
    writeFileSync(join(path, "secret.js"), "not a page")
    writeFileSync(join(path, "assets/notes.exe"), "not a page")
    return path
  }),
  (path) => Effect.sync(() => rmSync(path, { recursive: true }))
)

layer(services.pipe(Layer.provideMerge(PgTest.layer)), { timeout: "60 seconds", excludeTestServices: true })(
  "the pages of the console",
  (it) => {
    it.scoped("index.html and assets, with the policy of the page, compressed, and cached by their names", () =>
      Effect.gen(function*() {
        const { ask } = yield* start({ folder: yield* folder })
        const get = (path: string, headers: Readonly<Record<string, string>> = {}, method = "GET") =>
          ask(path, { bearer: null, headers, method })
        const page = yield* get("/")
        assert.include(page.text, "<title>Payments</title>")
        assert.deepInclude(page.headers, {
          "content-type": "text/html; charset=utf-8",
          "content-security-policy":
            "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'",
          "x-content-type-options": "nosniff",
          "x-frame-options": "DENY",
          "referrer-policy": "no-referrer",
          "cache-control": "no-cache"
        })
        const asset = "/assets/app-1a2b3c4d.js"
        const plain = yield* get(asset)
        assert.strictEqual(plain.text, script)
        assert.strictEqual(plain.headers["cache-control"], "public, max-age=31536000, immutable")
        const br = yield* get(asset, { "accept-encoding": "gzip, deflate, br" })
        assert.strictEqual(Zlib.brotliDecompressSync(br.bytes).toString(), "from the build")
        const gzip = yield* get(asset, { "accept-encoding": "gzip" })
        assert.deepInclude(gzip.headers, { "content-encoding": "gzip", vary: "accept-encoding" })
        assert.strictEqual(Zlib.gunzipSync(gzip.bytes).toString(), script)
        assert.strictEqual((yield* get(asset, { "accept-encoding": "br;q=0, gzip;q=0" })).text, script)
        const again = yield* get(asset, { "if-none-match": `W/"x", ${plain.headers.etag}` })
        assert.deepStrictEqual([again.status, again.text], [304, ""])
        assert.strictEqual((yield* get(asset, { "if-none-match": String(gzip.headers.etag) })).status, 200)
        assert.strictEqual((yield* get("/", {}, "POST")).status, 405)
        for (
          const path of [
            "/secret.js",
            "/index.html",
            "/assets/",
            "/assets/notes.exe",
            "/assets/../secret.js",
            "/assets/..%2fsecret.js",
            "/assets/%2e%2e/secret.js",
            "//etc/passwd",
            "/assets/app-1a2b3c4d.js%00",
            "/constructor"
          ]
        ) assert.strictEqual((yield* get(path)).status, 404, path)
      }))

    it.scoped("without a token / says how to switch the console on; without pages it says how to build them", () =>
      Effect.gen(function*() {
        const off = yield* start({ admin: false })
        const page = yield* off.ask("/", { bearer: null })
        assert.deepStrictEqual([page.status, page.text], [
          404,
          "the console is off: set ADMIN_TOKEN or ADMIN_TOKENS_FILE and restart, as docs/operations.md says\n"
        ])
        const unbuilt = yield* start()
        assert.include((yield* unbuilt.ask("/")).text, "npm run build")
      }))
  }
)
