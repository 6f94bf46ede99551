import { assert, it } from "@effect/vitest"
import { Deferred, Effect, TestClock } from "effect"
import { exportJWK, generateKeyPair } from "jose"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { pathToFileURL } from "node:url"
import * as KeySet from "../../../../src/infra/grpc/auth/KeySet.js"

const keySet = Effect.promise(async () => {
  const { publicKey } = await generateKeyPair("ES256")
  return JSON.stringify({ keys: [await exportJWK(publicKey)] })
})

it.scoped("an unknown key loads the keys, at most every five seconds", () =>
  Effect.gen(function*() {
    const folder = yield* Effect.acquireRelease(
      Effect.sync(() => mkdtempSync(join(tmpdir(), "keys-"))),
      (folder) => Effect.sync(() => rmSync(folder, { recursive: true }))
    )
    const file = join(folder, "keys")
    const options: KeySet.KeySetOptions = { keys: pathToFileURL(file), variable: "GRPC_JWKS_URL", every: "1 hour" }
    let replaced = 0
    const again = yield* Deferred.make<void>()
    const make = KeySet.make(options, () => {
      if (++replaced === 2) Deferred.unsafeDone(again, Effect.void)
    })
    const missing = yield* Effect.flip(make)
    assert.strictEqual(missing._tag, "FileUnusable")
    assert.match(missing.message, /^GRPC_JWKS_URL names a file that is no JSON Web Key Set: ENOENT/)

    writeFileSync(file, yield* keySet)
    const { renew } = yield* make
    writeFileSync(file, yield* keySet)
    assert.isFalse(yield* renew)
    yield* TestClock.adjust("5 seconds")
    // calls with a new key share one load
    assert.deepStrictEqual(yield* Effect.all([renew, renew, renew], { concurrency: "unbounded" }), [true, true, true])
    assert.isFalse(yield* renew)
    assert.strictEqual(replaced, 1)

    writeFileSync(file, "{}")
    yield* TestClock.adjust("5 seconds")
    const broken = yield* Effect.flip(renew)
    assert.match(broken.message, /^GRPC_JWKS_URL gives no keys: JSON Web Key Set malformed/)
    writeFileSync(file, yield* keySet)
    assert.strictEqual(yield* Effect.flip(renew), broken)
    // after a failure without a call
    yield* TestClock.adjust("5 seconds")
    yield* Deferred.await(again)
    assert.isFalse(yield* renew)
  }))
