import { assert, describe, it } from "@effect/vitest"
import { readdirSync, readFileSync } from "node:fs"
import type { Load } from "../../../../src/infra/kafka/patches/Patch.js"
import * as Patches from "../../../../src/infra/kafka/patches/Patches.js"
import { copy } from "../../../harness/StockKafkajs.js"

const names = Object.keys(Patches.patches).sort()

/** A copy of the library, in which one module is another. */
const withModule = (module: string, other: (loaded: unknown) => unknown): Load => {
  const load = copy()
  return (name) => name === module ? other(load(name)) : load(name)
}

describe("Patches", () => {
  it("each patch has a row in the README and a test", () => {
    const readme = readFileSync(new URL("../../../../src/infra/kafka/patches/README.md", import.meta.url), "utf8")
    assert.deepStrictEqual([...readme.matchAll(/^\| `(\w+)`/gm)].map(([, name]) => name), names)
    const tests = readdirSync(new URL(".", import.meta.url)).map((file) => file.replace(".test.ts", ""))
    for (const [name, { members, module }] of Object.entries(Patches.patches)) {
      assert.include(tests, name)
      const row = readme.split("\n").find((line) => line.startsWith(`| \`${name}\``))!
      for (const member of Object.keys(members)) assert.include(row, member)
      assert.include(row, module.replace("kafkajs/src/", ""))
    }
  })

  it("installs in the version that the patches are for", () => Patches.installIn(copy()))

  it("refuses another version, a function that is missing, and one with other parameters", () => {
    const cases: ReadonlyArray<readonly [Load, string]> = [
      [withModule("kafkajs/package.json", () => ({ version: "2.3.0" })), "its version is 2.3.0, not 2.2.4"],
      [
        withModule("kafkajs/src/cluster", () => class {}),
        "kafkajs/src/cluster has no function findGroupCoordinatorMetadata"
      ],
      [
        withModule("kafkajs/src/network/connection", (Connection) => {
          const { prototype } = Connection as { readonly prototype: object }
          return Object.assign(function() {}, {
            prototype: Object.assign(Object.create(prototype), { send: () => {} })
          })
        }),
        "send of kafkajs/src/network/connection takes 0 parameters, not 1"
      ]
    ]
    for (const [load, problem] of cases) {
      assert.throws(() => Patches.installIn(load), `kafkajs does not match its patches: ${problem}`)
    }
  })
})
