// Checks docs/asyncapi.yaml with the parser of the AsyncAPI project: node scripts/asyncapi.mjs
// The parser and its 170 packages stay out of package.json: they are installed once below .local/cache.
import { execFileSync } from "node:child_process"
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync } from "node:fs"
import { createRequire } from "node:module"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const version = "3.6.6"
const folder = join(root, ".local", "cache", `asyncapi-parser-${version}`)

if (!existsSync(folder)) {
  const half = `${folder}.${process.pid}`
  mkdirSync(half, { recursive: true })
  const flags = ["--prefix", half, "--ignore-scripts", "--no-audit", "--no-fund", "--no-save", "--no-package-lock"]
  execFileSync("npm", ["install", ...flags, `@asyncapi/parser@${version}`], { stdio: ["ignore", "ignore", "inherit"] })
  rmSync(folder, { recursive: true, force: true })
  renameSync(half, folder)
}

const { Parser } = createRequire(join(folder, "package.json"))("@asyncapi/parser")
const diagnostics = await new Parser().validate(readFileSync(join(root, "docs", "asyncapi.yaml"), "utf8"))
// 0 is an error, 1 a warning; the rest are wishes about style
const faults = diagnostics.filter(({ severity }) => severity <= 1)
for (const { code, message, path, range } of faults) {
  console.error(`docs/asyncapi.yaml:${range.start.line + 1}: ${path.join(".")}: ${message} (${code})`)
}
process.exitCode = faults.length === 0 ? 0 : 1
