import { assert, describe, it } from "@effect/vitest"
import { readFileSync } from "node:fs"
import { createRequire } from "node:module"
import { dirname } from "node:path"
import { compileFunction } from "node:vm"
import type { Load, Patch } from "../../../../src/infra/kafka/patches/Patch.js"

const root = dirname(createRequire(import.meta.url).resolve("kafkajs/package.json"))

/** A copy of stock kafkajs: its modules are evaluated anew, and share nothing with those of the process. */
export const copy = (): Load => {
  const modules = new Map<string, { exports: unknown }>()
  const evaluate = (file: string): unknown => {
    const known = modules.get(file)
    if (known !== undefined) return known.exports
    const text = readFileSync(file, "utf8")
    if (file.endsWith(".json")) return JSON.parse(text)
    const module = { exports: {} as unknown }
    modules.set(file, module)
    const require = createRequire(file)
    const load = (name: string): unknown => {
      const found = require.resolve(name)
      return found.startsWith(root) ? evaluate(found) : require(name)
    }
    const body = compileFunction(text, ["module", "exports", "require", "__filename", "__dirname"], { filename: file })
    body(module, module.exports, load, file, dirname(file))
    return module.exports
  }
  const { resolve } = createRequire(import.meta.url)
  return (name) => evaluate(resolve(name))
}

/**
 * Two tests of a patch that observe the same: the stock library shows the defect, and a library with no other patch than
 * this one does not.
 */
export const contract = <A>(
  defect: string,
  patch: Patch,
  expected: { readonly stock: A; readonly patched: A },
  observe: (load: Load) => Promise<A>
) =>
  describe(defect, () => {
    it("stock kafkajs has the defect", async () => {
      assert.deepStrictEqual(await observe(copy()), expected.stock)
    }, 60_000)

    it("patched kafkajs does not", async () => {
      const load = copy()
      patch.install(load)
      assert.deepStrictEqual(await observe(load), expected.patched)
    }, 60_000)
  })

/** A logger of kafkajs that writes nothing. */
export const logger: object = {
  namespace: () => logger,
  debug: () => {},
  info: () => {},
  warn: () => {},
  error: () => {}
}

/** Makes the error of a broker's error code. */
export const brokerError = (load: Load, code: number): Error =>
  (load("kafkajs/src/protocol/error") as { readonly createErrorFromCode: (code: number) => Error })
    .createErrorFromCode(code)
