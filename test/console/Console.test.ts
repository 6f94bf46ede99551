import { assert, describe, it, layer } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import { randomUUID } from "node:crypto"
import { readdirSync, statSync } from "node:fs"
import { fileURLToPath } from "node:url"
import type { Locator } from "playwright-core"
import { until } from "../harness/Eventually.js"
import * as World from "../harness/World.js"
import * as Browser from "./Browser.js"
import * as Ground from "./Ground.js"
import * as Pages from "./Pages.js"

const executable = await Browser.find()

const setup = Effect.gen(function*() {
  const world = yield* World.make()
  const [ground, browser] = yield* Effect.all([Ground.make(world), Browser.launch(executable!)], { concurrency: 2 })
  return { ...ground, ground, browser, open: (view?: Browser.View) => Browser.open(browser, ground.base, view) }
})

class Console extends Context.Tag("test/Console")<Console, Effect.Effect.Success<typeof setup>>() {}

const text = (page: Browser.Opened["page"], selector = "main") =>
  Effect.promise(() => page.locator(selector).innerText())

if (executable === undefined) {
  it.skip("the console in a browser: not checked, this machine has no Chrome (CHROME_PATH names one)", () => {})
} else {
  layer(Layer.scoped(Console, setup), { timeout: "120 seconds", excludeTestServices: true })(
    "the console in a browser",
    (it) => {
      it.scoped("the tour: push order 111, CREATED, WAIT and DONE, a repeat, pay, COMPLETED and the second event", () =>
        Effect.gen(function*() {
          const { open, tables } = yield* Console
          const { page, problems } = yield* open()
          yield* Effect.promise(() => page.goto("/"))
          yield* Pages.walkTour(page)
          assert.deepStrictEqual(yield* tables.payments(111), [{ order_id: "111", status: "COMPLETED" }])
          assert.deepStrictEqual((yield* tables.events(111)).map(({ status }) => status), ["DONE", "DONE"])
          yield* Effect.promise(() => page.locator(".line", { hasText: "COMPLETED on topic" }).waitFor())
          const story = yield* text(page)
          for (
            const told of [
              "created the payment",
              "repeat: the payment has this idempotent_key",
              "d978c560-fdba-4e84-b3f1-b570d8d95e4c",
              "Payment CREATED",
              "CREATED on topic",
              "Payment COMPLETED",
              "COMPLETED on topic"
            ]
          ) assert.include(story, told)
          // both topics were searched whole, and each trace is a word of its own
          assert.notInclude(story, "undefined")
          assert.match(story, /Traces: [0-9a-f]{32} [0-9a-f]{32}\b/)
          yield* Pages.visit(page, { path: "#/outbox/operations", has: "table td" })
          const log = yield* text(page, "table")
          for (const told of ["local", "payment pay", "the customer has paid", "inventory write"]) {
            assert.include(log, told)
          }
          assert.deepStrictEqual(problems, [])
        }))

      it.scoped("hostile records are text on every page, and run nothing", () =>
        Effect.gen(function*() {
          const { attack, open } = yield* Console
          const { page, problems } = yield* open()
          yield* attack
          yield* Pages.visit(page, { path: "#/orders/9007199254740993", has: ".line li" })
          for (const path of ["#/topics/inventory", "#/topics/dead-letters"]) {
            yield* Pages.visit(page, { path, has: "table td" })
            const shown = yield* Effect.promise(async () => {
              for (const summary of await page.locator("table summary").all()) await summary.click()
              return page.locator("main").innerText()
            })
            assert.include(shown, Ground.hostile)
          }
          assert.include(yield* text(page), "ff fe 00 3c")
          yield* Pages.visit(page, { path: "#/topics/inventory", has: "table td" })
          assert.include(yield* text(page), "\"order_id\":9007199254740993")
          yield* Pages.visit(page, { path: "#/dead-letters", has: "table td a" })
          yield* Effect.promise(async () => {
            for (const link of await page.locator("table a[href*='dead-letters/']").all()) {
              await page.goto(`/${await link.getAttribute("href")}`)
              await page.waitForSelector("pre")
              await page.goBack()
              await page.waitForSelector("table td a")
            }
          })
          assert.isUndefined(yield* Effect.promise(() => page.evaluate("window.pwned")))
          assert.strictEqual(yield* Effect.promise(() => page.locator("main img, main script").count()), 0)
          assert.deepStrictEqual(problems, [])
        }))

      it.scoped("a dead letter is corrected and replayed: its order gets a payment", () =>
        Effect.gen(function*() {
          const { misdirected, open, tables } = yield* Console
          const { page } = yield* open()
          yield* misdirected
          const letter = page.locator("table tr", { hasText: "open" }).filter({ hasText: "order_id" }).first()
          yield* Effect.promise(async () => {
            await page.goto("/#/dead-letters")
            while (await letter.count() === 0) {
              await page.getByRole("button", { name: "Refresh" }).click()
              await page.waitForLoadState("networkidle")
            }
            await letter.getByRole("link").click()
            await page.getByLabel("correct the value").check()
            const value = page.getByLabel("Corrected value")
            await value.fill((await value.inputValue()).replace("\"order\"", "\"order_id\""))
            await page.getByRole("button", { name: "Replay" }).click()
          })
          const { preview, says } = yield* Pages.confirm(page, "Replay", "the field was called order")
          assert.include(preview, "changes 1 letter")
          assert.include(says, "1 letter changed")
          yield* until(tables.payments(431), (rows) => rows.length === 1)
        }))

      it.scoped("an order is refused after a confirmation, with its reason and author in the log", () =>
        Effect.gen(function*() {
          const { open, tables, topics, world } = yield* Console
          const { page } = yield* open()
          yield* topics.write(world.inventory, {
            value: `{"idempotent_key":"${randomUUID()}","order_id":441,"status":"COMPLETED"}`
          })
          // the page of an order that is not there yet looks again by itself
          yield* Effect.promise(async () => {
            await page.goto("/#/orders/441")
            await page.getByRole("button", { name: "Refuse", exact: true }).click()
          })
          assert.deepStrictEqual((yield* tables.payments(441)).map(({ status }) => status), ["CREATED"])
          yield* Pages.confirm(page, "Refuse", "out of stock")
          yield* Effect.promise(() => page.locator("[data-status]", { hasText: "FAILED" }).waitFor())
          assert.deepStrictEqual((yield* tables.payments(441)).map(({ status }) => status), ["FAILED"])
          const [row] = yield* tables.query<{ operator: string; reason: string }>(
            "SELECT operator, reason FROM operation WHERE order_id = 441"
          )
          assert.deepStrictEqual(row, { operator: "local", reason: "out of stock" })
        }))

      it.scoped("dead events are found, sent again, skipped and announced again, each with a preview and a reason", () =>
        Effect.gen(function*() {
          const { dead, open, tables } = yield* Console
          const { page } = yield* open()
          yield* dead(451, 452)
          const choose = (order: number, button: string) =>
            Effect.promise(async () => {
              await page.goto(`/#/outbox?state=dead&order=${order}`)
              await page.getByRole("checkbox", { name: /Select event/ }).check()
              await page.getByRole("button", { name: button }).click()
            })
          const status = (order: number) =>
            Effect.map(tables.events(order), (rows) => rows.map(({ status }) => status).join())
          yield* choose(451, "Retry")
          assert.include((yield* Pages.confirm(page, "Retry", "raised the limit")).preview, "changes 1 event")
          yield* until(status(451), (now) => now === "DONE")
          yield* choose(452, "Skip")
          yield* Pages.confirm(page, "Skip", "the order is cancelled")
          assert.strictEqual(yield* status(452), "DONE")
          yield* Effect.promise(async () => {
            await page.goto("/#/outbox/replay")
            await page.getByLabel("Order ids").fill("451")
            await page.getByRole("button", { name: "Replay" }).click()
          })
          assert.include((yield* Pages.confirm(page, "Replay", "the topic lost it")).preview, "changes 1 event")
          const actions = yield* tables.query<{ action: string; reason: string }>(
            "SELECT action, reason FROM operation WHERE order_id IN (451, 452) ORDER BY id"
          )
          assert.deepStrictEqual(actions.map(({ action, reason }) => `${action}: ${reason}`), [
            "outbox retry: raised the limit",
            "outbox skip: the order is cancelled",
            "outbox replay: the topic lost it"
          ])
        }))

      it.scoped("live: an outage is the first thing on the page within seconds, and goes; a lost stream says so and comes back", () =>
        Effect.gen(function*() {
          const { open, redis, topics, web, world } = yield* Console
          // a failure here leaves the other cases their servers
          yield* Effect.addFinalizer(() => Effect.zipRight(redis.set("pass"), web.set("pass")))
          const { page, problems } = yield* open()
          const waitFor = (selector: string) => Effect.promise(() => page.locator(selector).waitFor())
          yield* Pages.visit(page, { path: "#/", has: "[data-station=redis][data-level=ok]" })
          yield* redis.set("refuse")
          // Redis is looked at when records come
          yield* topics.write(world.inventory, {
            value: `{"idempotent_key":"${randomUUID()}","order_id":461,"status":"COMPLETED"}`
          })
          yield* waitFor("[data-station=redis][data-level=warn]")
          yield* waitFor(".standing a[href='#/runbook/redis-is-away']")
          yield* redis.set("pass")
          yield* waitFor("[data-station=redis][data-level=ok]")
          yield* web.set("refuse")
          yield* waitFor("[data-lost]")
          yield* web.set("pass")
          yield* waitFor("[data-stream=live]")
          // a list that the server did not answer is asked for again, without a press
          yield* Pages.visit(page, { path: "#/topics/inventory", has: "table td" })
          yield* web.set("refuse")
          yield* Effect.promise(() => page.getByRole("button", { name: "Refresh" }).click())
          yield* waitFor("main section [role=alert]")
          yield* web.set("pass")
          yield* Effect.promise(() => page.locator("main section [role=alert]").first().waitFor({ state: "detached" }))
          yield* waitFor("[data-stream=live]")
          assert.strictEqual(yield* Effect.promise(() => page.locator("[data-lost]").count()), 0)
          assert.deepStrictEqual(problems, [])
        }))

      it.scoped("a record leads to its order, and an offset asks for its partition", () =>
        Effect.gen(function*() {
          const { open, topics, world } = yield* Console
          const { page, problems } = yield* open()
          yield* topics.write(world.inventory, {
            value: `{"idempotent_key":"${randomUUID()}","order_id":465,"status":"COMPLETED"}`
          })
          yield* Pages.visit(page, { path: "#/topics/inventory?contains=465", has: "table summary" })
          yield* Effect.promise(async () => {
            assert.deepStrictEqual(
              (await page.locator("select[name=partition] option").allInnerTexts()).map((name) => name.split(":")[0]),
              ["all", "0", "1", "2", "3"]
            )
            await page.getByLabel("From offset").fill("0")
            await page.getByRole("button", { name: "Search" }).click()
            assert.include(await page.locator("main p[role=alert]").innerText(), "choose the partition")
            await page.locator("table summary").first().click()
            await page.getByRole("link", { name: "Order 465" }).click()
            await page.getByRole("heading", { name: "Order 465" }).waitFor()
          })
          assert.deepStrictEqual(problems, [])
        }))

      it.scoped("new records of a followed topic appear by themselves", () =>
        Effect.gen(function*() {
          const { open, topics, world } = yield* Console
          const { page } = yield* open()
          yield* Pages.visit(page, { path: "#/topics/inventory", has: "h1" })
          yield* Effect.promise(async () => {
            await page.getByLabel("follow live").check()
            await page.waitForSelector("[data-follow=live]")
          })
          yield* topics.write(world.inventory, {
            value: `{"idempotent_key":"${randomUUID()}","order_id":471,"status":"CREATED"}`
          })
          yield* Effect.promise(() => page.locator("table", { hasText: "\"order_id\":471" }).waitFor())
        }))

      for (const scheme of ["light", "dark"] as const) {
        it.scoped(`every page: no serious finding of axe in ${scheme}, and no scrolling to the side on a phone`, () =>
          Effect.gen(function*() {
            const { dead, misdirected, open, tables, topics, world } = yield* Console
            const { page, problems } = yield* open({ scheme })
            const order = scheme === "light" ? 481 : 482
            yield* dead(order)
            yield* tables.query(
              `INSERT INTO operation (run, operator, action, reason, order_id, before, after)
               VALUES (gen_random_uuid(), 'ops', 'pay', 'the customer has paid', $1,
                 '{"status":"CREATED"}', '{"status":"COMPLETED"}')`,
              [order]
            )
            yield* misdirected
            yield* topics.write(world.inventory, {
              value: `{"idempotent_key":"${randomUUID()}","order_id":111,"status":"COMPLETED"}`
            })
            yield* Pages.visit(page, { path: "#/orders/111", has: ".line li" })
            for (const shown of Pages.pages) {
              yield* Pages.visit(page, shown)
              assert.deepStrictEqual(yield* Browser.inaccessible(page), [], shown.name)
              yield* Effect.promise(() => page.setViewportSize({ width: 375, height: 800 }))
              assert.isAtMost(yield* Browser.overflow(page), 0, `${shown.name} at 375 px`)
              yield* Effect.promise(() => page.setViewportSize({ width: 1240, height: 800 }))
            }
            assert.deepStrictEqual(problems, [])
          }))
      }

      it.scoped("times are in the zone of the reader, and in UTC at a press", () =>
        Effect.gen(function*() {
          const { open, topics, world } = yield* Console
          const { page } = yield* open()
          yield* topics.write(world.inventory, {
            value: `{"idempotent_key":"${randomUUID()}","order_id":491,"status":"COMPLETED"}`
          })
          yield* Pages.visit(page, { path: "#/orders/491", has: ".line time" })
          const time = page.locator(".line time").first()
          const at = yield* Effect.promise(async () => (await time.getAttribute("datetime"))!)
          const clock = (zone: string) => new Date(at).toLocaleTimeString("en-GB", { timeZone: zone })
          assert.include(yield* Effect.promise(() => time.innerText()), clock("Europe/Berlin"))
          yield* Effect.promise(() => page.getByRole("button", { name: "times in Europe/Berlin" }).click())
          assert.include(yield* Effect.promise(() => time.innerText()), clock("UTC"))
        }))

      it.scoped("the keyboard alone: skip link, dialog with the focus in it, Escape, and the focus is back", () =>
        Effect.gen(function*() {
          const { misdirected, open } = yield* Console
          const { page } = yield* open()
          yield* misdirected
          yield* Pages.visit(page, { path: "#/topics/inventory", has: "table td" })
          const focus = Effect.promise(() => page.evaluate(() => document.activeElement?.textContent ?? ""))
          yield* Effect.promise(async () => {
            await page.keyboard.press("Tab")
            await page.keyboard.press("Enter")
          })
          assert.match(yield* focus, /^Topic/)
          yield* Effect.promise(async () => {
            await page.keyboard.press("Tab")
            await page.keyboard.press("Enter")
            await page.getByRole("dialog").waitFor()
          })
          assert.isTrue(
            yield* Effect.promise(() => page.evaluate(() => document.activeElement!.closest("dialog") !== null))
          )
          yield* Effect.promise(async () => {
            await page.keyboard.press("Escape")
            await page.getByRole("dialog").waitFor({ state: "detached" })
          })
          assert.match(yield* focus, /^Write a record/)
          // a key that is pressed right after another one finds the page as that one left it
          yield* Effect.promise(async () => {
            await page.keyboard.press("Enter")
            await page.getByRole("dialog").waitFor()
            await Promise.all([page.keyboard.press("Escape"), page.keyboard.press("Enter")])
            await page.getByRole("button", { name: "Cancel" }).focus()
            await Promise.all([page.keyboard.press("Enter"), page.keyboard.press("Enter")])
            await page.getByRole("button", { name: "Cancel" }).focus()
            await page.keyboard.press("Enter")
            await page.getByRole("dialog").waitFor({ state: "detached" })
          })
          assert.match(yield* focus, /^Write a record/)
        }))

      it.scoped("a token opens the console: a wrong one is refused, an unnamed one asks for the name, and signing out ends it", () =>
        Effect.gen(function*() {
          const { browser, world } = yield* Console
          const base = yield* Ground.served(
            ["console"],
            { ...world.env, ADMIN_TOKEN: "correct-horse-battery-staple" },
            false
          )
          const { page, problems } = yield* Browser.open(browser, base)
          /** Signs in until the page shows this: the server takes one attempt a second. */
          const signIn = (token: string, shown: Locator) =>
            Effect.promise(async () => {
              await page.getByLabel("Token").fill(token)
              while (await shown.count() === 0) {
                await page.getByRole("button", { name: "Sign in" }).click()
                await shown.waitFor({ timeout: 1_500 }).catch(() => undefined)
              }
            })
          const name = page.getByLabel("Your name")
          yield* Effect.promise(() => page.goto("/#/outbox"))
          yield* signIn("wrong", page.getByText("does not know this token"))
          yield* signIn("correct-horse-battery-staple", name)
          yield* Effect.promise(() => name.fill("ann"))
          assert.deepStrictEqual(yield* Browser.inaccessible(page), [])
          yield* signIn("correct-horse-battery-staple", page.getByRole("heading", { name: "Outbox" }))
          yield* Effect.promise(async () => {
            assert.strictEqual(await page.getByRole("button", { name: "Tour" }).count(), 0)
            await page.getByRole("button", { name: "Sign out" }).click()
            await page.getByLabel("Token").waitFor()
          })
          assert.strictEqual(yield* Effect.promise(() => page.evaluate("document.cookie")), "")
          assert.deepStrictEqual(problems, [])
        }))
    }
  )
}

describe("the pages as files", () => {
  it("the first load is below 200 KB", () => {
    const folder = fileURLToPath(new URL("../../dist/console/", import.meta.url))
    const files = [
      "index.html.br",
      ...readdirSync(`${folder}assets`).filter((name) => /^(console|icon)-.*\.br$/.test(name)).map((name) =>
        `assets/${name}`
      )
    ]
    const bytes = files.reduce((sum, name) => sum + statSync(folder + name).size, 0)
    assert.isAtLeast(files.length, 4)
    assert.isBelow(bytes, 200_000)
  })
})
