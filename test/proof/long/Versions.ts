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

/** The last version of the program without a migration: its commit, or why it cannot be had. */
export const before = (migration: string): { readonly commit: string } | { readonly reason: string } => {
  try {
    const added = git("log", "--diff-filter=A", "--format=%H", "--", `sql/${migration}`).split("\n").at(-1)!
    if (added === "") return { reason: `${migration} is not in the history` }
    return { commit: git("rev-parse", "--verify", `${added}^`) }
  } catch {
    return { reason: "there is no history of git, or it begins later" }
  }
}

/** Compiles that version with the packages of this one, for the life of the scope. Answers the file of its program. */
export const compiled = (commit: string) =>
  Effect.acquireRelease(
    freshFolder,
    (folder) => Effect.sync(() => rmSync(`${root}${folder}`, { recursive: true, force: true }))
  ).pipe(
    Effect.map((name) => {
      const folder = `${root}${name}`
      mkdirSync(folder, { recursive: true })
      execFileSync("sh", ["-c", `git archive ${commit} | tar -x -C "${folder}"`], { cwd: root })
      symlinkSync(`${root}node_modules`, `${folder}/node_modules`)
      execFileSync(process.execPath, ["scripts/build.mjs"], { cwd: folder, stdio: "pipe" })
      return `${folder}/dist/bin/payments.js`
    })
  )
