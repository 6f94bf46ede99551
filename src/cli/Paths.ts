import { fileURLToPath } from "node:url"

// src/cli and dist/bin are at the same depth: what the program reads beside its code lies two folders up
const besides = (path: string) => fileURLToPath(new URL(`../../${path}`, import.meta.url))

/** The folder of package.json. */
export const checkout = besides("")

/** The SQL migrations. */
export const migrations = besides("sql")

export const packageJson = besides("package.json")
