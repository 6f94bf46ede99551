import { Effect } from "effect"
import type { Page } from "playwright-core"

export interface Shown {
  readonly name: string
  readonly path: string
  /** Selects what is there when the page has its data. */
  readonly has: string
}

/** Every page, and what it shows when it has its data. */
export const pages: ReadonlyArray<Shown> = [
  { name: "saga", path: "#/", has: "[data-spark=lag] canvas" },
  { name: "orders", path: "#/orders", has: "table a[href*='orders/']" },
  { name: "order", path: "#/orders/111", has: ".line li" },
  { name: "outbox", path: "#/outbox", has: "table td" },
  { name: "blocked", path: "#/outbox/blocked", has: "table td" },
  { name: "replay", path: "#/outbox/replay", has: "form" },
  { name: "operations", path: "#/outbox/operations", has: "table td" },
  { name: "dead-letters", path: "#/dead-letters", has: "table td" },
  { name: "topics", path: "#/topics/inventory", has: "table td" },
  { name: "doctor", path: "#/doctor", has: ".note .pill" },
  { name: "runbook", path: "#/runbook/the-brokers-are-away", has: "h2.target" }
]

/** Goes to a page, and waits for its data. */
export const visit = (page: Page, { has, path }: Pick<Shown, "path" | "has">) =>
  Effect.promise(async () => {
    await page.goto(`/${path}`)
    await page.waitForSelector(has)
  })

/** Walks the tour as a reader does, by its links and buttons only. Ends at its last step. */
export const walkTour = (page: Page, afterEach: (step: string) => Promise<unknown> = () => Promise.resolve()) =>
  Effect.promise(async () => {
    const at = async (step: string) => {
      await page.waitForSelector(`.tour[data-step='${step}']`)
      await afterEach(step)
    }
    const link = (name: string | RegExp) => page.locator(".tour li[aria-current]").getByRole("link", { name }).click()
    const write = async () => {
      await link("topic inventory")
      await page.getByRole("button", { name: "Write a record" }).click()
      const dialog = page.getByRole("dialog")
      await dialog.getByRole("button", { name: "Write", exact: true }).click()
      await dialog.waitFor({ state: "detached" })
    }
    await page.getByRole("button", { name: "Begin the tour" }).click()
    await at("1")
    await link("topic inventory")
    await page.getByRole("heading", { name: "Topic inventory" }).waitFor()
    await link("topic payment")
    await at("2")
    await write()
    await at("3")
    await link(/^order/)
    await at("5")
    await write()
    await at("6")
    await link(/^order/)
    await page.getByRole("button", { name: "Pay", exact: true }).click()
    const dialog = page.getByRole("dialog")
    await dialog.getByLabel("Reason").fill("the customer has paid")
    await dialog.getByRole("button", { name: "Pay", exact: true }).click()
    await at("end")
  })

/** Answers the dialog of a change: the reason, and the button with this word. Ends when it is done. */
export const confirm = (page: Page, verb: string, reason: string) =>
  Effect.promise(async () => {
    const dialog = page.getByRole("dialog")
    await dialog.getByText("Preview:").waitFor()
    const preview = await dialog.locator(".note").first().innerText()
    await dialog.getByLabel("Reason").fill(reason)
    await dialog.getByRole("button", { name: verb, exact: true }).click()
    await dialog.waitFor({ state: "detached" })
    return { preview, says: await page.locator("[data-done]").innerText() }
  })
