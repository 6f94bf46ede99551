import { Effect } from "effect"
import { existsSync, readFileSync } from "node:fs"
import { createRequire } from "node:module"
import type { Page } from "playwright-core"
import { chromium } from "playwright-core"

const chromes = [
  "/usr/bin/google-chrome",
  "/usr/bin/chromium",
  "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
  "C:\\Program Files\\Google\\Chrome\\Application\\chrome.exe"
]

/** A Chromium of the npm package on Linux, otherwise an installed Chrome; undefined where there is none. CHROME_PATH names another. */
export const find = async (): Promise<string | undefined> => {
  const named = process.env["CHROME_PATH"]
  if (named !== undefined) return named
  if (process.platform === "linux" && process.arch === "x64") {
    const { default: packed } = await import("@sparticuz/chromium")
    return packed.executablePath()
  }
  return chromes.find((path) => existsSync(path))
}

/** The browser for the life of the scope. */
export const launch = (executablePath: string) =>
  Effect.acquireRelease(
    Effect.promise(() => chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu"] })),
    (browser) => Effect.promise(() => browser.close())
  )

export type Scheme = "light" | "dark"

export interface View {
  readonly scheme?: Scheme
  /** Default: 1240. */
  readonly width?: number
  /** Default: 800. */
  readonly height?: number
}

/** A page with what went wrong on it: errors of scripts, refusals of the policy, requests to other hosts. */
export interface Opened {
  readonly page: Page
  readonly problems: ReadonlyArray<string>
}

/** Opens an empty page in a session of its own, for the life of the scope. Its reader lives in Berlin. */
export const open = (browser: Effect.Effect.Success<ReturnType<typeof launch>>, base: string, view: View = {}) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.promise(() =>
        browser.newContext({
          baseURL: base,
          colorScheme: view.scheme ?? "light",
          locale: "en-GB",
          timezoneId: "Europe/Berlin",
          viewport: { width: view.width ?? 1240, height: view.height ?? 800 }
        })
      ).pipe(Effect.flatMap((context) =>
        Effect.promise(async () => {
          const page = await context.newPage()
          page.setDefaultTimeout(30_000)
          const problems: Array<string> = []
          page.on("pageerror", (error) => problems.push(error.message))
          page.on("dialog", (dialog) => {
            problems.push(`dialog: ${dialog.message()}`)
            void dialog.dismiss()
          })
          page.on("console", (message) => {
            // Chrome reports each answer that is no success; the page shows those itself
            if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) {
              problems.push(message.text())
            }
          })
          page.on("request", (request) => {
            if (!request.url().startsWith(base)) problems.push(`request to ${request.url()}`)
          })
          return { context, page, problems }
        })
      )),
      ({ context }) => Effect.promise(() => context.close())
    ),
    ({ page, problems }): Opened => ({ page, problems })
  )

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8")

interface Violation {
  readonly id: string
  readonly impact: string
  readonly help: string
  readonly nodes: ReadonlyArray<{ readonly target: ReadonlyArray<string>; readonly failureSummary: string }>
}

/** What axe finds on the page, a line each; without those of minor and moderate impact. */
export const inaccessible = (page: Page) =>
  Effect.promise(async () => {
    // as the debugger: the policy of the page allows no foreign script
    await page.evaluate(`${axe}; 0`)
    const violations: ReadonlyArray<Violation> = await page.evaluate(
      `axe.run(document, { resultTypes: ["violations"] }).then(({ violations }) => violations)`
    )
    return violations.filter(({ impact }) => impact === "serious" || impact === "critical").map(({ help, id, nodes }) =>
      `${id}: ${help}: ${nodes.slice(0, 3).map(({ target }) => target.join(" ")).join(", ")}`
    )
  })

/** By how many pixels the page is wider than its window. */
export const overflow = (page: Page) =>
  Effect.promise(() => page.evaluate(() => document.documentElement.scrollWidth - innerWidth))
