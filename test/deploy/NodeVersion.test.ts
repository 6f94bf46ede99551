import { assert, it } from "@effect/vitest"
import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"

const read = (path: string) => readFileSync(fileURLToPath(new URL(`../../${path}`, import.meta.url)), "utf8")

it("shell, image and flake have the same Node, and the README names it", () => {
  const major = read(".nvmrc").trim()
  assert.deepStrictEqual(
    new Set([...read("flake.nix").matchAll(/nodejs_(\d+)/g)].map(([, of]) => of)),
    new Set([major])
  )
  assert.match(read("Dockerfile"), new RegExp(`^FROM node:${major}\\.`, "m"))
  assert.include(read("README.md"), `You need Node ${major}`)
})
