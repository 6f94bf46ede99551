import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { randomUUID } from "node:crypto"
import * as Browser from "../../console/Browser.js"
import * as Ground from "../../console/Ground.js"
import * as Pages from "../../console/Pages.js"
import * as Restartable from "../../harness/Restartable.js"
import * as World from "../../harness/World.js"

const executable = await Browser.find()

/** A page of the console, on servers of which the broker is its own. */
const make = Effect.gen(function*() {
  const kafka = yield* Restartable.make("kafka")
  const world = yield* World.make({ kafkaBrokers: kafka.url })
  const ground = yield* Ground.make(world)
  const browser = yield* Browser.launch(executable!)
  const { page, problems } = yield* Browser.open(browser, ground.base)
  page.setDefaultTimeout(60_000)
  return { ...ground, kafka, page, problems } as const
})

// skipped: this machine has no Chrome (CHROME_PATH names one)
describe.skipIf(executable === undefined)("P12: the console", { timeout: 240_000 }, () => {
  it.scopedLive("a broker outage: the page names the brokers, keeps its stream, and goes on by itself when they are back", () =>
    Effect.gen(function*() {
      const { kafka, page, problems, topics, world } = yield* make
      const waitFor = (selector: string) => Effect.promise(() => page.locator(selector).first().waitFor())
      const reserve = (orderId: number) =>
        topics.write(world.inventory, {
          value: `{"idempotent_key":"${randomUUID()}","order_id":${orderId},"status":"COMPLETED"}`
        })
      const away = ".standing a[href='#/runbook/the-brokers-are-away']"
      yield* reserve(501)
      yield* Pages.visit(page, { path: "#/", has: "[data-station=relay][data-level=ok]" })

      yield* kafka.freeze
      yield* waitFor(away)
      yield* waitFor("[data-stream=live]")
      yield* kafka.thaw
      yield* waitFor("[data-station=relay][data-level=ok]")
      yield* Effect.promise(() => page.locator(away).first().waitFor({ state: "detached" }))

      yield* reserve(502)
      yield* Pages.visit(page, { path: "#/orders/502", has: ".line" })
      yield* Effect.promise(() => page.locator(".line", { hasText: "CREATED on topic" }).waitFor())
      assert.deepStrictEqual(problems, [])
    }))

  it.scopedLive("100,000 dead events: the outbox counts and pages them, and stands still for no second", () =>
    Effect.gen(function*() {
      const { page, tables, world } = yield* make
      yield* tables.query(
        `INSERT INTO event (topic, payload, status, attempts, last_error, order_id)
             SELECT $1, '{"idempotent_key":"' || gen_random_uuid() || '","order_id":' || n || ',"status":"CREATED"}', 'DEAD', 5, 'flood', n
             FROM generate_series(1000001, 1100000) AS n`,
        [world.payment]
      )
      yield* Effect.promise(() =>
        page.addInitScript(() => {
          new PerformanceObserver((list) => {
            for (const { duration } of list.getEntries()) {
              Object.assign(globalThis, {
                longest: Math.max(duration, Number(Reflect.get(globalThis, "longest") ?? 0))
              })
            }
          }).observe({ entryTypes: ["longtask"] })
        })
      )
      yield* Pages.visit(page, { path: "#/outbox?state=dead&error=flood", has: "table td" })
      assert.include(yield* Effect.promise(() => page.locator(".chips").innerText()), "100,000")
      yield* Effect.promise(async () => {
        for (const count of [200, 300, 400]) {
          await page.getByRole("button", { name: "Show more" }).click()
          await page.locator(`tbody tr:nth-child(${count})`).waitFor()
        }
      })
      assert.isBelow(Number(yield* Effect.promise(() => page.evaluate("globalThis.longest ?? 0"))), 1_000)
    }))
})
