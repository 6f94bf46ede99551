import { assert, layer } from "@effect/vitest"
import { Effect, FastCheck as fc, Layer } from "effect"
import * as Http2 from "node:http2"
import * as Net from "node:net"
import * as Zlib from "node:zlib"
import * as StreamReset from "../../../src/infra/grpc/patches/StreamReset.js"
import * as Calls from "../../harness/Calls.js"
import * as Program from "../../harness/Program.js"
import * as Tables from "../../harness/Tables.js"
import * as World from "../../harness/World.js"
import { bound } from "../Bounds.js"
import * as Seed from "../Seed.js"
import { each, meanwhile, tally } from "./Meanwhile.js"

const requests = bound({ standard: 3_000, large: 10_000 })
const connections = 500

interface Request {
  readonly headers: Record<string, string>
  readonly body: Buffer
  /** What comes after the body: the end, or a reset. */
  readonly end: boolean
}

/** A frame of gRPC around a message: whether it is compressed, its length, its bytes. */
const frame = (message: Buffer, compressed = 0, length = message.length) => {
  const head = Buffer.alloc(5)
  head.writeUInt8(compressed, 0)
  head.writeUInt32BE(length, 1)
  return Buffer.concat([head, message])
}

const bytes = fc.uint8Array({ maxLength: 80 }).map((_) => Buffer.from(_))
/** Fields of protobuf: any number, any wire type, any bytes. */
const fields = fc.array(
  fc.tuple(fc.integer({ min: 0, max: 20 }), fc.integer({ min: 0, max: 7 }), bytes),
  { maxLength: 5 }
).map((all) => Buffer.concat(all.flatMap(([number, type, value]) => [Buffer.of(number << 3 | type), value])))
const message = fc.oneof(bytes, fields, fc.constant(Buffer.from("0a".repeat(200), "hex")), fc.constant(Buffer.alloc(0)))
const zeros = Zlib.gzipSync(Buffer.alloc(20 * 2 ** 20))

const body = fc.oneof(
  { weight: 3, arbitrary: message.map((_) => frame(_)) },
  fc.tuple(message, fc.nat({ max: 2 ** 32 - 1 })).map(([message, length]) => frame(message, 0, length)),
  fc.tuple(message, fc.nat({ max: 255 })).map(([message, flag]) => frame(message, flag)),
  message.map((message) => frame(Zlib.gzipSync(message), 1)),
  fc.tuple(message, message).map(([one, other]) => Buffer.concat([frame(one), frame(other)])),
  fc.tuple(message, fc.nat()).map(([message, at]) => frame(message).subarray(0, at % (message.length + 5))),
  bytes
)
const seldom = (usual: string, ...others: ReadonlyArray<string>) =>
  fc.oneof({ weight: 6, arbitrary: fc.constant(usual) }, { weight: 1, arbitrary: fc.constantFrom(...others) })
const service = "/paymentsapi.PaymentsApi"
const request: fc.Arbitrary<Request> = fc.record({
  path: fc.oneof(
    {
      weight: 6,
      arbitrary: fc.constantFrom(`${service}/UpdatePaymentStatus`, `${service}/GetPayment`, `${service}/GetPing`)
    },
    fc.constantFrom(
      "/",
      "",
      service,
      `${service}/`,
      `${service}/Nothing`,
      "/../etc/passwd",
      "*",
      `/${"x".repeat(5_000)}`
    ),
    fc.constantFrom("/__proto__", "/constructor", `${service}/constructor`, "/grpc.health.v1.Health/Check")
  ),
  method: seldom("POST", "GET", "PUT", "HEAD", "OPTIONS", "DELETE"),
  type: seldom(
    "application/grpc",
    "application/json",
    "text/html",
    "application/grpc+json",
    "application/grpc-web",
    ""
  ),
  timeout: seldom("", "1n", "0S", "-1S", "99999999H", "999999999999S", "abc", "1", "5Z", "1 S", "\u00e9"),
  encoding: seldom("", "gzip", "deflate", "identity", "br", "snappy", "gzip,gzip", "constructor"),
  traceparent: seldom("", "00-0-0-0", "x".repeat(2_000)),
  flood: seldom("0", "10", "100", "200", "1000"),
  body,
  end: fc.oneof({ weight: 9, arbitrary: fc.constant(true) }, { weight: 1, arbitrary: fc.constant(false) })
}).map(({ body, encoding, end, flood, method, path, timeout, traceparent, type }) => ({
  headers: {
    ":method": method,
    ":path": path,
    te: "trailers",
    ...type === "" ? {} : { "content-type": type },
    ...timeout === "" ? {} : { "grpc-timeout": timeout },
    ...encoding === "" ? {} : { "grpc-encoding": encoding },
    ...traceparent === "" ? {} : { traceparent },
    ...Object.fromEntries(Array.from({ length: Number(flood) }, (_, i) => [`x-${i}`, "y".repeat(100)]))
  },
  body,
  end
}))

// or this process dies: an answer that is read lets the next request be sent, and reset
StreamReset.install()

const connect = (address: string) =>
  Http2.connect(`http://${address}`, { maxSendHeaderBlockLength: 2 ** 20 }).on("error", () => {})

/** So many sessions, in turn; one that the server has sent away is made anew. */
const sessions = (address: string, count: number) =>
  Effect.gen(function*() {
    const open: Array<Http2.ClientHttp2Session> = []
    yield* Effect.addFinalizer(() => Effect.sync(() => open.forEach((session) => session.destroy())))
    return (i: number) => {
      const session = open[i % count]
      return session === undefined || session.closed || session.destroyed
        ? open[i % count] = connect(address)
        : session
    }
  })

/** How a request was answered: a status of gRPC or of HTTP, a reset, or `silence`. */
const answer = (session: Http2.ClientHttp2Session, { body, end, headers }: Request) =>
  new Promise<string>((resolve) => {
    let status = ""
    const stream = session.request(headers)
    const limit = setTimeout(() => {
      // under load Node forgets now and then to tell that a stream has ended: its engine, which has no such stream any
      // more, has the last word
      const isOver = stream.state.state === Http2.constants.NGHTTP2_STREAM_STATE_IDLE && !stream.pending
      resolve(isOver ? "reset" : "silence")
      stream.close()
    }, 15_000)
    const note = (headers: Record<string, unknown>) => {
      if (headers["grpc-status"] !== undefined) status = `grpc ${String(headers["grpc-status"])}`
      else if (status === "" && headers[":status"] !== 200) status = `http ${String(headers[":status"])}`
    }
    stream.on("response", note).on("trailers", note).on("error", () => {}).on("frameError", () => {})
    stream.on("close", () => {
      clearTimeout(limit)
      resolve(status === "" ? "reset" : status)
    })
    stream.resume()
    stream.write(body)
    if (end) stream.end()
    else stream.close(Http2.constants.NGHTTP2_CANCEL)
  })

/**
 * Bytes that are no HTTP/2, to the end of the connection. Some that begin well are waited for (a frame that is cut, of
 * settings for example); then it is the pings that send the stranger away, after 40 s.
 */
const garbage = (port: number, bytes: Buffer) =>
  new Promise<string>((resolve) => {
    const socket = Net.connect(port, "127.0.0.1", () => socket.end(bytes))
    const limit = setTimeout(() => {
      resolve("silence")
      socket.destroy()
    }, 60_000)
    socket.on("error", () => {}).resume().on("close", () => {
      clearTimeout(limit)
      resolve("closed")
    })
  })

layer(Layer.empty, { excludeTestServices: true })("P11: gRPC from strangers", (it) => {
  it.scoped(`${requests} requests: each gets an answer, and others are served`, () =>
    Effect.gen(function*() {
      const seed = Seed.chosen()
      const world = yield* World.make()
      const program = yield* Program.serve(["grpc"], { ...world.env, KAFKA_CREATE_TOPICS: "true" })
      yield* program.untilReady
      const calls = yield* Calls.make(program.grpc)
      const tables = yield* Tables.make(world.databaseUrl)
      const ping = Effect.flatMap(calls.call("GetPing", {}), ({ code }) =>
        code === "OK" ? Effect.void : Effect.dieMessage(code))
      const rss = program.metric("payments_process_resident_memory_bytes")

      const sessionOf = yield* sessions(program.grpc, 4)
      const ask = (request: Request, i: number) =>
        answer(sessionOf(i), request)

      const sampled = fc.sample(request, { numRuns: requests, seed })
      yield* each(sampled.slice(0, 1_000), 32, ask)
      const warm = yield* rss
      const [answers, seen] = yield* meanwhile<ReadonlyArray<string>, never, never>(ping, "50 millis")(
        each(sampled, 32, ask)
      )
      const port = Number(program.grpc.split(":")[1])
      const noise = fc.sample(fc.uint8Array({ maxLength: 400 }).map((_) => Buffer.from(_)), {
        numRuns: connections,
        seed
      })
      const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
      const closed = yield* each(noise, 32, (bytes, i) =>
        garbage(port, i % 2 === 0 ? bytes : Buffer.concat([preface, bytes])))
      process.stdout.write(`seed ${seed}: ${tally([...answers, ...closed])}; others: ${JSON.stringify(seen)}\n`)

      answers.forEach((answer, i) =>
        assert.notStrictEqual(
          answer,
          "silence",
          `request ${i}, seed ${seed}: ${JSON.stringify(sampled[i]!.headers).slice(0, 200)}`
        )
      )
      assert.notInclude(closed, "silence", `seed ${seed}`)
      assert.strictEqual(seen.refused, 0, `GetPing was refused, seed ${seed}`)
      assert.strictEqual(yield* tables.count("event"), 0)
      assert.strictEqual(yield* program.metric("payments_service_restarts_total"), 0)
      const grown = ((yield* rss) - warm) / 2 ** 20
      assert.isBelow(grown, 200, "MiB that the program grew by")
      yield* ping
    }), 240_000)

  it.scoped(
    "messages that are too large, compressed or not, are RESOURCE_EXHAUSTED",
    () =>
      Effect.gen(function*() {
        const world = yield* World.make()
        const program = yield* Program.serve(["grpc"], { ...world.env, KAFKA_CREATE_TOPICS: "true" })
        yield* program.untilReady
        const sessionOf = yield* sessions(program.grpc, 1)
        const call = (body: Buffer, encoding: string) =>
          answer(sessionOf(0), {
            headers: {
              ":method": "POST",
              ":path": `${service}/GetPing`,
              te: "trailers",
              "content-type": "application/grpc",
              "grpc-encoding": encoding
            },
            body,
            end: true
          })
        const warm = yield* program.metric("payments_process_resident_memory_bytes")
        const large = frame(Buffer.alloc(5 * 2 ** 20))
        const bomb = frame(zeros, 1)
        for (const body of [large, frame(Buffer.alloc(65 * 1024))]) {
          assert.strictEqual(yield* Effect.promise(() => call(body, "identity")), "grpc 8")
        }
        const bombs = yield* each(Array.from({ length: 200 }, () => bomb), 20, (bomb) => call(bomb, "gzip"))
        assert.strictEqual(tally(bombs), "grpc 8 200")
        const grown = ((yield* program.metric("payments_process_resident_memory_bytes")) - warm) / 2 ** 20
        assert.isBelow(grown, 200, "MiB that the program grew by")
      }),
    60_000
  )
})
