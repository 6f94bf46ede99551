import * as NodeContext from "@effect/platform-node/NodeContext"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Effect } from "effect"
import { mkdirSync, readdirSync, statSync } from "node:fs"
import { fileURLToPath } from "node:url"
import * as Stack from "../../src/local/Stack.js"
import * as Topics from "../harness/Topics.js"
import * as World from "../harness/World.js"
import * as Browser from "./Browser.js"
import * as Ground from "./Ground.js"
import * as Pages from "./Pages.js"

const usage = `usage: npm run console [-- --figures]

Runs the services on servers of their own, and takes the pictures of docs/images/console with a browser.
With --figures it measures instead: the size of the first load, the time to the first figures, and the cost of 100 open pages.`

/** Of the pictures: small files that can be read in a document. */
const size = { width: 1100, height: 700 }

const root = fileURLToPath(new URL("../..", import.meta.url))
const say = (line: string) => process.stdout.write(`${line}\n`)

const pictures = (ground: Ground.Ground, browser: Effect.Effect.Success<ReturnType<typeof Browser.launch>>) =>
  Effect.gen(function*() {
    const folder = `${root}docs/images/console`
    mkdirSync(folder, { recursive: true })
    const { page } = yield* Browser.open(browser, ground.base, size)
    const shoot = (name: string) => Effect.promise(() => page.screenshot({ path: `${folder}/${name}.png` }))
    yield* Effect.promise(() => page.goto("/"))
    yield* Pages.walkTour(
      page,
      (step) => step === "5" ? page.screenshot({ path: `${folder}/tour.png` }) : Promise.resolve()
    )
    yield* Effect.promise(() => page.getByRole("button", { name: "End the tour" }).click())
    yield* ground.misdirected
    yield* ground.dead(501, 502, 503)
    // something to see in the figures: half a minute of a few orders a second
    yield* Effect.forEach(
      Array.from({ length: 60 }, (_, index) => index),
      (index) =>
        ground.topics.write(
          ground.world.inventory,
          ...Array.from({ length: 1 + Math.round(3 + 3 * Math.sin(index / 8)) }, (_, n) => ({
            value: Topics.reserved(2_000 + index * 10 + n)
          }))
        ).pipe(Effect.zipRight(Effect.sleep("500 millis"))),
      { discard: true }
    )
    for (const shown of Pages.pages.filter(({ name }) => !["replay", "blocked", "runbook"].includes(name))) {
      // a long table makes a large file
      const height = ["orders", "topics"].includes(shown.name) ? 430 : size.height
      yield* Effect.promise(() => page.setViewportSize({ ...size, height }))
      yield* Pages.visit(page, shown)
      yield* shoot(shown.name)
    }
    yield* Pages.visit(page, { path: "#/dead-letters", has: "table td a" })
    yield* Effect.promise(async () => {
      await page.setViewportSize(size)
      await page.locator("table a[href*='dead-letters/']").last().click()
      await page.waitForSelector("pre")
    })
    yield* shoot("dead-letter")
    const dark = yield* Browser.open(browser, ground.base, { ...size, scheme: "dark" })
    yield* Pages.visit(dark.page, Pages.pages[0]!)
    yield* Effect.promise(() => dark.page.screenshot({ path: `${folder}/saga-dark.png` }))
    for (const name of readdirSync(folder)) {
      say(`docs/images/console/${name}  ${Math.round(statSync(`${folder}/${name}`).size / 1024)} KB`)
    }
  })

/** Statements that the database has run, and CPU seconds of this process, while `pages` streams are open. */
const cost = (ground: Ground.Ground, pages: number, seconds: number) =>
  Effect.scoped(Effect.gen(function*() {
    yield* Effect.forEach(
      Array.from({ length: pages }),
      () =>
        Effect.acquireRelease(
          Effect.promise(async () => {
            const abort = new AbortController()
            const response = await fetch(`${ground.base}/api/saga/live`, { signal: abort.signal })
            if (response.status !== 200) throw new Error(`the stream answered ${response.status}`)
            const read = response.body!.pipeTo(new WritableStream()).catch(() => undefined)
            return { abort, read }
          }),
          ({ abort, read }) => Effect.promise(() => (abort.abort(), read))
        ),
      { concurrency: 10 }
    )
    const transactions = Effect.map(
      ground.tables.query<{ readonly n: string }>(
        "SELECT xact_commit AS n FROM pg_stat_database WHERE datname = current_database()"
      ),
      ([row]) => Number(row!.n)
    )
    yield* Effect.sleep("2 seconds")
    const [before, cpu] = [yield* transactions, process.cpuUsage()]
    yield* Effect.sleep(seconds * 1_000)
    const { system, user } = process.cpuUsage(cpu)
    // the statistics of a session come up to a second late
    return { statements: (yield* transactions) - before, cpu: (system + user) / 1e6 }
  }))

const figures = (ground: Ground.Ground, browser: Effect.Effect.Success<ReturnType<typeof Browser.launch>>) =>
  Effect.gen(function*() {
    const folder = `${root}dist/console/`
    const size = (pattern: RegExp) =>
      readdirSync(`${folder}assets`).filter((name) => pattern.test(name)).reduce(
        (sum, name) => sum + statSync(`${folder}assets/${name}`).size,
        0
      )
    const first = size(/^(console|icon).*\.br$/) + statSync(`${folder}index.html.br`).size
    say(
      `first load    ${(first / 1000).toFixed(1)} KB compressed: script ${size(/^console.*\.js\.br$/)} bytes, style ${
        size(/^console.*\.css\.br$/)
      } bytes`
    )
    const times: Array<number> = []
    for (let round = 0; round < 6; round++) {
      const { page } = yield* Browser.open(browser, ground.base)
      const since = performance.now()
      yield* Pages.visit(page, Pages.pages[0]!)
      times.push(performance.now() - since)
    }
    say(
      `first figures ${
        times.slice(1).map((time) => Math.round(time)).join(", ")
      } ms after the address was entered, without a cache`
    )
    for (const pages of [1, 100]) {
      const { cpu, statements } = yield* cost(ground, pages, 20)
      say(
        `${String(pages).padStart(3)} open pages  ${statements} statements and ${
          cpu.toFixed(1)
        } s of CPU in 20 s (services and readers in one process)`
      )
    }
  })

const run = Effect.gen(function*() {
  const args = process.argv.slice(2)
  if (args.some((arg) => arg !== "--figures")) return say(usage)
  const executable = yield* Effect.promise(Browser.find)
  if (executable === undefined) return yield* Effect.dieMessage("no Chrome here: CHROME_PATH names one")
  const stack = yield* Stack.start({
    folder: `.local/console-${process.pid}`,
    cache: ".local/cache",
    ports: { postgres: 0, redis: 0, kafka: 0 },
    throwaway: true,
    onProgress: ({ detail, millis, part, step }) =>
      Effect.sync(() => say(`${part.padEnd(10)}${step} after ${millis} ms  ${detail}`))
  })
  const shared = World.on({
    databaseUrl: stack.databaseUrl!,
    redisUrl: stack.redisUrl!,
    kafkaBrokers: stack.kafkaBrokers!
  })
  // the names that readers know
  const names = { inventory: "inventory", dlq: "inventory.dlq", payment: "payment" }
  const world = {
    ...shared,
    ...names,
    env: {
      ...shared.env,
      INVENTORY_TOPIC: names.inventory,
      INVENTORY_DLQ_TOPIC: names.dlq,
      PAYMENT_TOPIC: names.payment
    }
  }
  const ground = yield* Ground.make(world)
  const browser = yield* Browser.launch(executable)
  yield* args.length > 0 ? figures(ground, browser) : pictures(ground, browser)
})

run.pipe(Effect.scoped, Effect.provide(NodeContext.layer), NodeRuntime.runMain)
