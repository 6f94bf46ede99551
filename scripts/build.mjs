// Bundles src/ into one file, which starts in half the time of some 1,500 separate modules.
// Packages that read files beside their own code, or that other packages must share, are not bundled.
import { build } from "esbuild"
import { chmodSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"

process.chdir(dirname(dirname(fileURLToPath(import.meta.url))))

const { bin, dependencies } = JSON.parse(readFileSync("package.json", "utf8"))
const isBundled = (name) => name === "effect" || name.startsWith("@effect/") || name.startsWith("@opentelemetry/")

const external = Object.keys(dependencies).filter((name) => !isBundled(name))

// a program that ends may add to dist meanwhile
rmSync("dist", { recursive: true, force: true, maxRetries: 3 })
await build({
  entryPoints: ["src/main.ts"],
  outfile: join(dirname(bin.payments), "program.js"),
  bundle: true,
  platform: "node",
  target: "node20",
  format: "esm",
  external,
  // bundled CommonJS code requires Node's own modules
  banner: { js: "import{createRequire as $createRequire}from\"node:module\";const require=$createRequire(import.meta.url);" },
  sourcemap: true,
  legalComments: "none",
  logLevel: "warning"
})

// From 22.1 on, Node keeps the compiled code in dist, and later starts take a fifth less CPU. Where it cannot write there (an
// image, a package of root), it compiles each time. A folder for temporary files would let others of this machine plant code.
writeFileSync(
  bin.payments,
  `#!/usr/bin/env node
import module from "node:module"
import { fileURLToPath } from "node:url"
module.enableCompileCache?.(fileURLToPath(new URL("../compiled", import.meta.url)))
await import("./program.js")
`
)
// npx runs the file by its shebang line
chmodSync(bin.payments, 0o755)
// for scripts/ship.mjs: what must lie beside the bundle
writeFileSync("dist/external.json", JSON.stringify(external))
