// Writes the table of settings in README.md, and .env.example, from src/Config.ts: npx tsx scripts/config-table.mjs
// With --check it writes nothing and exits 1 when one of them is not current.
import { existsSync, readFileSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath, pathToFileURL } from "node:url"

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const begin = "<!-- config:begin -->"
const end = "<!-- config:end -->"

/** An example that neither the default nor the description shows already; undefined otherwise. */
const exampleOf = ({ about, default: fallback, example }) =>
  example === "" || example === fallback || about.includes(`\`${example}\``) ? undefined : example

/** The rows of `settings` of Config.ts, as a Markdown table. */
export const tableOf = (settings) => {
  const cell = (text) => text.replaceAll("|", "\\|")
  const rows = Object.values(settings).map((setting) => {
    const { about, default: fallback, name } = setting
    const example = exampleOf(setting)
    const meaning = example === undefined ? about : `${about} E.g. \`${example}\`.`
    return `| \`${name}\` | ${fallback === "" ? "" : `\`${cell(fallback)}\``} | ${cell(meaning)} |`
  })
  return ["| variable | default | meaning |", "|---|---|---|", ...rows].join("\n")
}

/** `text` with the table between its markers. */
export const replaceTable = (text, table) => {
  const [from, to] = [text.indexOf(begin), text.indexOf(end)]
  if (from < 0 || to < from) throw new Error(`README.md has no ${begin} … ${end}`)
  return `${text.slice(0, from + begin.length)}\n${table}\n${text.slice(to)}`
}

/** The settings as an environment file in which every line is a comment: each variable with its default. */
export const environmentOf = (settings) => {
  const plain = (text) => text.replaceAll(/\[([^\]]+)\]\([^)]+\)/g, "$1").replaceAll("`", "")
  const entries = Object.values(settings).map((setting) => {
    const example = exampleOf(setting)
    const meaning = example === undefined ? setting.about : `${setting.about} E.g. ${example}`
    return `# ${plain(meaning)}\n#${setting.name}=${setting.default}\n`
  })
  return [
    "# All settings with their defaults. To change one, copy this file to .env and uncomment the line.\n" +
    "# The program does not read .env by itself: node --env-file=.env dist/bin/payments.js serve\n" +
    "# Generated from src/Config.ts by: npx tsx scripts/config-table.mjs\n",
    ...entries
  ].join("\n")
}

const main = async () => {
  const { settings } = await import("../src/Config.ts")
  const read = (name) => existsSync(join(root, name)) ? readFileSync(join(root, name), "utf8") : ""
  const wanted = {
    "README.md": replaceTable(read("README.md"), tableOf(settings)),
    ".env.example": environmentOf(settings)
  }
  const stale = Object.keys(wanted).filter((name) => wanted[name] !== read(name))
  if (process.argv.includes("--check")) {
    for (const name of stale) {
      console.error(`${name} does not show the settings of src/Config.ts: npx tsx scripts/config-table.mjs`)
    }
    return stale.length === 0 ? 0 : 1
  }
  for (const name of stale) writeFileSync(join(root, name), wanted[name])
  return 0
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) process.exitCode = await main()
