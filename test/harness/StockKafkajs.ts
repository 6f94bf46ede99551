import type { Kafka as KafkaClient } from "kafkajs"
import { readFileSync } from "node:fs"
import { createRequire } from "node:module"
import { dirname } from "node:path"
import { compileFunction } from "node:vm"
import type { Load } from "../../src/infra/kafka/patches/Patch.js"

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

/** Loads a module of the copy whose clients the tests use. */
export const load = copy()

/** A header value that is written as null, as Java clients do. kafkajs reads such headers but cannot write them. */
export const nullHeader = Buffer.alloc(0)

const Encoder = load("kafkajs/src/protocol/encoder") as {
  readonly prototype: { writeVarIntBytes: (value: Buffer | null) => unknown }
}
const write = Encoder.prototype.writeVarIntBytes
// both lengths, 0 and -1, are one byte: all sizes that were counted before stay true
Encoder.prototype.writeVarIntBytes = function(value) {
  return write.call(this, value === nullHeader ? null : value)
}

/** Stock kafkajs, which no patch of the service changes. It also writes `nullHeader`. */
export const { Kafka } = load("kafkajs") as { readonly Kafka: typeof KafkaClient }
