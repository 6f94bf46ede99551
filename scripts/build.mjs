// Bundles src/ into one file, which starts in half the time of some 1,500 separate modules, and the pages of the console.
// Packages that read files beside their own code, or that other packages must share, are not bundled.
import { build } from "esbuild"
import { Marked } from "marked"
import { chmodSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
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

/** The pages: names of files in assets/ contain a hash of their contents, so that a browser may keep them for ever. */
const web = "src/console/web"
const pages = "dist/console"
const { metafile } = await build({
  entryPoints: { console: join(web, "main.tsx") },
  outdir: join(pages, "assets"),
  entryNames: "[name]-[hash]",
  assetNames: "[name]-[hash]",
  bundle: true,
  minify: true,
  platform: "browser",
  target: "es2022",
  format: "esm",
  legalComments: "none",
  metafile: true,
  logLevel: "warning"
})
const asset = (extension) =>
  Object.keys(metafile.outputs).map((path) => path.slice(pages.length + 1)).find((path) => path.endsWith(extension))
const [script, style, icon] = [".js", ".css"].map(asset).concat("assets/icon.svg")
writeFileSync(join(pages, icon), readFileSync(join(web, "icon.svg")))

const escape = (text) => text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`)
const html = (title, body) => `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${escape(title)}</title>
<link rel="icon" href="${icon}" type="image/svg+xml">
<link rel="stylesheet" href="${style}">
${body}
</html>
`
writeFileSync(
  join(pages, "index.html"),
  html(
    "Payments",
    `<script type="module" src="${script}"></script>
<body><div id="app"><p class="boot">Payments</p></div><noscript>The console needs JavaScript.</noscript></body>`
  )
)

/** The runbook as a page: the address of a section is that of the document. Other documents are not served, so links to them are text. */
const slug = (text) => text.toLowerCase().replace(/[^\w\- ]/g, "").replace(/ /g, "-")
const runbook = new Marked({
  renderer: {
    heading({ depth, tokens }) {
      const text = this.parser.parseInline(tokens)
      return `<h${depth} id="${slug(this.parser.parseInline(tokens, this.parser.textRenderer))}">${text}</h${depth}>\n`
    },
    link({ href, tokens }) {
      const text = this.parser.parseInline(tokens)
      return href.startsWith("#") ? `<a href="${href}">${text}</a>` : text
    }
  }
})
writeFileSync(
  join(pages, "runbook.html"),
  html(
    "Runbook · Payments",
    `<body class="document"><p><a href="./">Payments console</a></p>
<main>${runbook.parse(readFileSync("docs/runbook.md", "utf8"))}</main></body>`
  )
)

// the licences of the bundled packages demand their texts
mkdirSync(pages, { recursive: true })
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
