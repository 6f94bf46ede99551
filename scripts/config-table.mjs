// Writes the table of settings into README.md, from src/Config.ts: npx tsx scripts/config-table.mjs
// With --check nothing is written: exits 1 when the table is not current.
import { readFileSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath, pathToFileURL } from "node:url"

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const readme = join(root, "README.md")
const begin = "<!-- config:begin -->"
const end = "<!-- config:end -->"

/** The rows of `settings` of Config.ts, as a Markdown table. */
export const tableOf = (settings) => {
  const cell = (text) => text.replaceAll("|", "\\|")
  const rows = Object.values(settings).map(({ about, default: fallback, example, name }) => {
    const hint = example === "" || example === fallback ? "" : ` E.g. \`${example}\`.`
    // an example that the text gives already is not given twice
    const shown = about.includes(`\`${example}\``) ? "" : hint
    return `| \`${name}\` | ${fallback === "" ? "" : `\`${cell(fallback)}\``} | ${cell(about + shown)} |`
  })
  return ["| variable | default | meaning |", "|---|---|---|", ...rows].join("\n")
}

/** `text` with the table between its markers. */
export const replaceTable = (text, table) => {
  const [from, to] = [text.indexOf(begin), text.indexOf(end)]
  if (from < 0 || to < from) throw new Error(`README.md has no ${begin} … ${end}`)
  return `${text.slice(0, from + begin.length)}\n${table}\n${text.slice(to)}`
}

const main = async () => {
  const { settings } = await import("../src/Config.ts")
  const before = readFileSync(readme, "utf8")
  const after = replaceTable(before, tableOf(settings))
  if (after === before) return 0
  if (process.argv.includes("--check")) {
    console.error("README.md does not show the settings of src/Config.ts: npx tsx scripts/config-table.mjs")
    return 1
  }
  writeFileSync(readme, after)
  return 0
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) process.exitCode = await main()
