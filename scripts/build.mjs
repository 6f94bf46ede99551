// Bundles src/ into one file, which starts in half the time of some 1,500 separate modules, and the pages of the console.
// Packages that read files beside their own code, or that other packages must share, are not bundled.
import { build } from "esbuild"
import { Marked } from "marked"
import { chmodSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { brotliCompressSync, gzipSync } from "node:zlib"

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

/** The address of a heading, as a browser of this repository makes it. */
const slug = (text) => text.toLowerCase().replace(/[^\w\- ]/g, "").replace(/ /g, "-")

/** The runbook as HTML for the console. Other documents are not served there, so links to them are text. */
const documents = {
  name: "documents",
  setup: ({ onLoad }) => {
    const renderer = {
      heading({ depth, tokens }) {
        const id = slug(this.parser.parseInline(tokens, this.parser.textRenderer))
        return `<h${depth} id="${id}" tabindex="-1">${this.parser.parseInline(tokens)}</h${depth}>`
      },
      link({ href, tokens }) {
        const text = this.parser.parseInline(tokens)
        return href.startsWith("#") ? `<a href="#/runbook/${href.slice(1)}">${text}</a>` : text
      }
    }
    onLoad({ filter: /\.md$/ }, ({ path }) => ({
      contents: new Marked({ renderer }).parse(readFileSync(path, "utf8")),
      loader: "text"
    }))
  }
}

/** The pages of the console. Names in assets/ contain a hash of the contents, so that a browser may keep the files for ever. */
const web = "src/console/web"
const pages = "dist/console"
const { metafile } = await build({
  entryPoints: { console: join(web, "main.tsx") },
  outdir: join(pages, "assets"),
  entryNames: "[name]-[hash]",
  chunkNames: "[name]-[hash]",
  assetNames: "[name]-[hash]",
  loader: { ".svg": "file" },
  plugins: [documents],
  bundle: true,
  // the runbook is loaded when it is opened
  splitting: true,
  minify: true,
  platform: "browser",
  target: "es2022",
  format: "esm",
  legalComments: "none",
  metafile: true,
  logLevel: "warning"
})
const asset = (pattern) =>
  Object.keys(metafile.outputs).map((path) => path.slice(pages.length + 1)).find((path) => pattern.test(path))
writeFileSync(
  join(pages, "index.html"),
  `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Payments</title>
<link rel="icon" href="${asset(/icon-\w+\.svg$/)}" type="image/svg+xml">
<link rel="stylesheet" href="${asset(/console-\w+\.css$/)}">
<script type="module" src="${asset(/console-\w+\.js$/)}"></script>
<div id="app"><p class="boot">Payments</p></div>
<noscript>The console needs JavaScript.</noscript>
</html>
`
)

// the licences of the bundled packages demand their texts
writeFileSync(
  join(pages, "licences.txt"),
  ["preact", "uplot"].map((name) => `${name}\n\n${readFileSync(`node_modules/${name}/LICENSE`, "utf8")}`).join("\n\n")
)

// a server that compresses on each request would spend more than it sends
for (const entry of readdirSync(pages, { recursive: true, withFileTypes: true })) {
  if (!entry.isFile()) continue
  const path = join(entry.parentPath ?? entry.path, entry.name)
  const bytes = readFileSync(path)
  writeFileSync(`${path}.br`, brotliCompressSync(bytes))
  writeFileSync(`${path}.gz`, gzipSync(bytes, { level: 9 }))
}
