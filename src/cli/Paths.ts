import { fileURLToPath } from "node:url"

// src/cli and dist/bin are at the same depth: the checkout is two folders up from both
const inCheckout = (path: string) => fileURLToPath(new URL(`../../${path}`, import.meta.url))

/** The folder of package.json. */
export const checkout = inCheckout("")

/** The SQL migrations. */
export const migrations = inCheckout("sql")

/** The pages of the console, which the build makes. */
export const pages = inCheckout("dist/console")

export const packageJson = inCheckout("package.json")
