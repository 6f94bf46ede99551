// Copies to a folder what the program needs at run time, for the image and for a server without containers. Run it after the build.
import { cpSync, existsSync, readFileSync } from "node:fs"
import { dirname, join, relative, resolve } from "node:path"
import { fileURLToPath } from "node:url"

const usage = "usage: node scripts/ship.mjs FOLDER\n\nCopies the compiled program with what it needs at run time to FOLDER, which must not exist."

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const inRoot = (path) => join(root, path)
const json = (path) => JSON.parse(readFileSync(path, "utf8"))

/** Files that only compilers, debuggers and readers of a package open. Licences stay. */
const unread = /\.(map|md|markdown|flow|tsbuildinfo|[cm]?ts)$/

/** The package that `name` means in the code of the package at `from`, as Node finds it; undefined for an optional one that is missing. */
const find = (from, name) => {
  for (let folder = from;; folder = dirname(folder)) {
    const found = join(folder, "node_modules", name)
    if (existsSync(join(found, "package.json"))) return found
    if (folder === root) return undefined
  }
}

/** Folders of these packages and of all that they depend on. */
const packagesOf = (names) => {
  const folders = new Set()
  const add = (from, name) => {
    const folder = find(from, name)
    if (folder === undefined || folders.has(folder)) return
    folders.add(folder)
    const { dependencies, optionalDependencies, peerDependencies } = json(join(folder, "package.json"))
    Object.keys({ ...dependencies, ...optionalDependencies, ...peerDependencies }).forEach((name) => add(folder, name))
  }
  names.forEach((name) => add(root, name))
  return [...folders]
}

const main = ([target, ...more]) => {
  if (target === undefined || target.startsWith("-") || more.length > 0) {
    console.error(usage)
    return target === "--help" ? 0 : 2
  }
  const external = inRoot("dist/external.json")
  if (!existsSync(external)) {
    console.error("dist/external.json is missing: npm run build")
    return 1
  }
  const to = resolve(target)
  if (existsSync(to)) {
    console.error(`${to} exists: name a new folder`)
    return 2
  }
  const copy = (path, isNeeded = () => true) =>
    cpSync(inRoot(path), join(to, path), { recursive: true, filter: (source) => isNeeded(relative(inRoot(path), source)) })
  for (const path of ["dist", "package.json", "proto", "sql"]) copy(path, (file) => !unread.test(file))
  for (const folder of packagesOf(json(external))) {
    // a package inside of another one is copied by itself
    copy(relative(root, folder), (file) => !file.startsWith("node_modules") && !unread.test(file))
  }
  return 0
}

process.exitCode = main(process.argv.slice(2))
