import { assert, layer } from "@effect/vitest"
import { Effect, FastCheck as fc, Layer } from "effect"
import * as Net from "node:net"
import * as Calls from "../../harness/Calls.js"
import { eventually } from "../../harness/Eventually.js"
import * as Program from "../../harness/Program.js"
import * as World from "../../harness/World.js"
import { bound } from "../Bounds.js"
import * as Seed from "../Seed.js"
import { each, meanwhile, tally } from "./Meanwhile.js"

const connections = bound({ standard: 3_000, large: 10_000 })
const requests = bound({ standard: 3_000, large: 10_000 })

const bytes = fc.uint8Array({ maxLength: 200 }).map((_) => Buffer.from(_).toString("latin1"))
const line = fc.string({ unit: "binary-ascii", maxLength: 30 })
const method = fc.oneof(fc.constantFrom("GET", "HEAD", "POST", "OPTIONS", "TRACE", "PRI", "get"), line)
const path = fc.oneof(
  fc.constantFrom("/livez", "/readyz", "/metrics", "/metrics?x=1", "/livez/", "//livez", "/../metrics", "*", ""),
  fc.constantFrom("/constructor", "/__proto__", "/%00", "/%ff%fe", "http://other/livez", `/${"x".repeat(20_000)}`),
  line.map((_) => `/${_}`)
)
const version = fc.oneof({ weight: 6, arbitrary: fc.constant("HTTP/1.1") }, {
  weight: 1,
  arbitrary: fc.constantFrom("HTTP/1.0", "HTTP/2.0", "HTTP/9.9", "")
})
const header = fc.oneof(
  fc.constantFrom("Host: x", "Connection: close", "Connection: upgrade\r\nUpgrade: h2c", "Expect: 100-continue"),
  fc.constantFrom("Content-Length: 5", "Content-Length: -1", "Content-Length: 99999999999", "Content-Length: 1, 2"),
  fc.constantFrom("Transfer-Encoding: chunked", "Transfer-Encoding: gzip, chunked", " folded", ": nameless"),
  fc.constant(`X: ${"y".repeat(9_000)}`),
  fc.constant(Array.from({ length: 3_000 }, (_, i) => `A${i}: 1`).join("\r\n")),
  fc.tuple(line, line).map((_) => _.join(": "))
)
const body = fc.oneof(fc.constant(""), bytes, fc.constant("5\r\nhello\r\n0\r\n\r\n"), fc.constant("z".repeat(300_000)))

/** Something like a request, cut anywhere, or no request at all. */
const request: fc.Arbitrary<string> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.tuple(method, path, version, fc.array(header, { maxLength: 2 }), body).map(
      ([method, path, version, headers, body]) =>
        `${method} ${path} ${version}\r\nHost: x\r\n${headers.map((_) => `${_}\r\n`).join("")}\r\n${body}`
    ).chain((text) =>
      fc.oneof({ weight: 4, arbitrary: fc.constant(text) }, fc.nat({ max: text.length }).map((at) => text.slice(0, at)))
    )
  },
  bytes
)

const limitMillis = 15_000

/** Sends text to the end. Answers the status of the first answer, `closed` without one, `silence` when nothing came. */
const answer = (port: number, text: string) =>
  new Promise<string>((resolve) => {
    let said = ""
    const socket = Net.connect(port, "127.0.0.1", () => socket.end(text, "latin1"))
    const limit = setTimeout(() => {
      resolve("silence")
      socket.destroy()
    }, limitMillis)
    socket.setEncoding("latin1").on("data", (data: string) => said.length < 100 && (said += data)).on("error", () => {})
    socket.on("close", () => {
      clearTimeout(limit)
      resolve(/^HTTP\/1\.1 (\d+)/.exec(said)?.[1] ?? "closed")
    })
  })

/** Sends a text byte by byte, as slowly as it takes. Answers how long the server bore it, in seconds. */
const dribble = (port: number, text: string) =>
  new Promise<number>((resolve) => {
    const began = performance.now()
    let sent = 0
    const socket = Net.connect(port, "127.0.0.1")
    const drip = setInterval(() => socket.write(text[sent++ % text.length]!), 250)
    const end = () => {
      clearInterval(drip)
      socket.destroy()
      resolve((performance.now() - began) / 1_000)
    }
    const limit = setTimeout(end, 30_000)
    socket.resume().on("error", () => {}).on("close", () => {
      clearTimeout(limit)
      end()
    })
  })

layer(Layer.empty, { excludeTestServices: true })("P11: operations HTTP from strangers", (it) => {
  it.scoped(
    `${requests} requests, then slow clients: all are disconnected, and /livez answers`,
    () =>
      Effect.gen(function*() {
        const seed = Seed.chosen()
        const world = yield* World.make()
        const program = yield* Program.serve(["grpc"], { ...world.env, KAFKA_CREATE_TOPICS: "true" })
        yield* program.untilReady
        const port = program.httpPort
        const livez = Effect.flatMap(
          program.get("/livez"),
          ({ status }) => status === 200 ? Effect.void : Effect.dieMessage(String(status))
        )
        const rss = program.metric("payments_process_resident_memory_bytes")

        const sampled = fc.sample(request, { numRuns: requests, seed })
        yield* each(sampled.slice(0, 1_000), 32, (text) => answer(port, text))
        const warm = yield* rss
        const [answers, seen] = yield* meanwhile<ReadonlyArray<string>, never, never>(livez, "50 millis")(
          each(sampled, 32, (text) => answer(port, text))
        )
        process.stdout.write(`seed ${seed}: ${tally(answers)}; others: ${JSON.stringify(seen)}\n`)
        answers.forEach((answer, i) => {
          const say = `request ${i}, seed ${seed}: ${JSON.stringify(sampled[i]!.slice(0, 100))}`
          assert.notStrictEqual(answer, "silence", say)
          assert.notMatch(answer, /^500$/, say)
        })
        assert.strictEqual(seen.refused, 0, `/livez was refused, seed ${seed}`)

        const slow = ["GET /livez HTTP/1.1\r\nX: yyyyyyyy", "POST /livez HTTP/1.1\r\nContent-Length: 9999\r\n\r\nzz"]
        const [seconds, others] = yield* meanwhile<ReadonlyArray<number>, never, never>(livez, "50 millis")(
          each(Array.from({ length: 200 }, (_, i) => slow[i % 2]!), 200, (text) => dribble(port, text))
        )
        process.stdout.write(
          `slow ones were borne ${Math.max(...seconds).toFixed(1)} s; others: ${JSON.stringify(others)}\n`
        )
        assert.isBelow(Math.max(...seconds), 20)
        assert.strictEqual(others.refused, 0)

        assert.strictEqual(yield* program.metric("payments_service_restarts_total"), 0)
        assert.isBelow(((yield* rss) - warm) / 2 ** 20, 150, "MiB that the program grew by")
      }),
    240_000
  )
})

/** Connections that this process may open, up to `connections`. Two thousand descriptors are left for everything else. */
const openable = () => {
  const limit = Number((process.report!.getReport() as any).userLimits.open_files.soft)
  return Number.isNaN(limit) ? connections : Math.min(connections, limit - 2_000)
}

layer(Layer.empty, { excludeTestServices: true })("P11: connections that send nothing", (it) => {
  it.scoped(
    `as many as may be open, up to ${connections}: the program stays bounded and serves others`,
    () =>
      Effect.gen(function*() {
        const world = yield* World.make()
        const program = yield* Program.serve(["grpc"], { ...world.env, KAFKA_CREATE_TOPICS: "true" })
        yield* program.untilReady
        const get = (path: string) => program.get(path).pipe(eventually("30 seconds", "200 millis"))
        const rss = program.metric("payments_process_resident_memory_bytes").pipe(
          eventually("30 seconds", "200 millis")
        )
        const calls = yield* Calls.make(program.grpc)
        const warm = yield* rss

        const count = openable()
        const fill = Effect.fnUntraced(function*(name: string, port: number) {
          const sockets: Array<Net.Socket> = []
          yield* Effect.addFinalizer(() => Effect.sync(() => sockets.forEach((socket) => socket.destroy())))
          let open = 0
          let most = 0
          const connect = () =>
            new Promise<void>((resolve) => {
              const socket = Net.connect(port, "127.0.0.1", () => {
                most = Math.max(most, ++open)
                socket.once("close", () => open--)
                resolve()
              })
              sockets.push(socket.resume().on("error", () => resolve()))
            })
          for (let made = 0; made < count; made += 500) {
            yield* each(Array.from({ length: Math.min(500, count - made) }), 100, connect)
            assert.strictEqual((yield* calls.call("GetPing", {})).code, "OK", `after ${made} connections to ${name}`)
          }
          assert.strictEqual((yield* get("/livez")).status, 200)
          const grown = ((yield* rss) - warm) / 2 ** 20
          process.stdout.write(
            `${name}: ${count} connections, ${most} open at once, ${open} still; ${grown.toFixed(0)} MiB\n`
          )
          assert.isBelow(grown, 600, "MiB that the program grew by")
          return Effect.sync(() => assert.strictEqual(open, 0, `${name} connections that were left open`))
        })
        // who says nothing is sent away by itself
        const left = [
          yield* fill("gRPC", Number(program.grpc.split(":")[1])),
          yield* fill("HTTP", program.httpPort)
        ]
        yield* Effect.all(left).pipe(eventually("90 seconds", "500 millis"))
        assert.strictEqual(yield* program.metric("payments_service_restarts_total"), 0)
      }),
    300_000
  )
})
