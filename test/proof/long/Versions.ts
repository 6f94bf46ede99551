import { Effect } from "effect"
import { execFileSync } from "node:child_process"
import { mkdirSync, readdirSync, rmSync, symlinkSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { freshFolder } from "../../harness/World.js"

const root = fileURLToPath(new URL("../../../", import.meta.url))

const git = (...args: ReadonlyArray<string>) =>
  execFileSync("git", args, { cwd: root, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] }).trim()

/** Names of the migrations, in their order. */
export const migrations = readdirSync(`${root}sql`).filter((name) => /^\d+_\w+\.sql$/.test(name)).sort()

const read = new Map<string, ReadonlyMap<string, string>>()

/** The contents of the migrations in a commit, each by its hash. */
const contents = (commit: string) => {
  const known = read.get(commit)
  if (known !== undefined) return known
  const files = new Map(
    git("ls-tree", commit, "sql/").split("\n").flatMap((line) => {
      const [, , hash, path] = line.split(/\s/)
      return /^sql\/\d+_\w+\.sql$/.test(path ?? "") ? [[path!.slice("sql/".length), hash!] as const] : []
    })
  )
  read.set(commit, files)
  return files
}

/** A version of the program. */
export interface Version {
  readonly commit: string
  /** A migration that it came with, and does not get. */
  readonly without?: string
}

/**
 * The last version of the program that has the migrations before this one as they are today, and no other. Where a migration
 * before it was changed later, before the first release, there is none: then the first version with this migration, without its
 * file. Or why none can be had.
 */
export const before = (migration: string): Version | { readonly reason: string } => {
  const index = migrations.indexOf(migration)
  const first = migrations[0]!
  try {
    const now = contents("HEAD")
    const commits = git("rev-list", "--date-order", "HEAD").split("\n")
    /** Whether a version has so many migrations as they are today, and no other. */
    const has = (count: number) => (commit: string) => {
      const files = contents(commit)
      return files.size === count && migrations.slice(0, count).every((name) => files.get(name) === now.get(name))
    }
    const exact = commits.find(has(index))
    if (exact !== undefined) return { commit: exact }
    if (commits.map(contents).every((files) => !files.has(first) || files.has(migration))) {
      return { reason: "the first version has it too" }
    }
    const later = commits.findLast(has(index + 1))
    return later === undefined
      ? { reason: "the migrations before it were changed later" }
      : { commit: later, without: migration }
  } catch {
    return { reason: "there is no history of git" }
  }
}

/** Compiles that version with the packages of this one, for the life of the scope. Answers the file of its program. */
export const compiled = ({ commit, without }: Version) =>
  Effect.acquireRelease(
    freshFolder,
    (folder) => Effect.sync(() => rmSync(`${root}${folder}`, { recursive: true, force: true }))
  ).pipe(
    Effect.map((name) => {
      const folder = `${root}${name}`
      mkdirSync(folder, { recursive: true })
      execFileSync("sh", ["-c", `git archive ${commit} | tar -x -C "${folder}"`], { cwd: root })
      if (without !== undefined) rmSync(`${folder}/sql/${without}`)
      symlinkSync(`${root}node_modules`, `${folder}/node_modules`)
      execFileSync(process.execPath, ["scripts/build.mjs"], { cwd: folder, stdio: "pipe" })
      return `${folder}/dist/bin/payments.js`
    })
  )
