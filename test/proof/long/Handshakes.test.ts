import { assert, layer } from "@effect/vitest"
import { Context, Effect, FastCheck as fc, Layer } from "effect"
import * as Https from "node:https"
import * as Net from "node:net"
import { Duplex } from "node:stream"
import * as NodeTls from "node:tls"
import * as Calls from "../../harness/Calls.js"
import { eventually } from "../../harness/Eventually.js"
import * as Program from "../../harness/Program.js"
import * as Secured from "../../harness/Secured.js"
import * as World from "../../harness/World.js"
import * as Seed from "../Seed.js"
import { each, meanwhile, tally } from "../strangers/Meanwhile.js"

/** For each surface. */
const connections = 10_000
/** HTTP takes 256 connections at a time, and others are to be served beside these. */
const atATime = 200
/** Milliseconds. The server ends a handshake after 5 s, and this machine is busy. */
const patience = 30_000

/** A ClientHello as Node sends it. */
const clientHello = Effect.async<Buffer>((resume) => {
  const wire = new Duplex({
    read: () => {},
    write: (data: Buffer, _, done) => {
      resume(Effect.succeed(data))
      done()
      wire.destroy()
    }
  })
  NodeTls.connect({ socket: wire, ALPNProtocols: ["h2", "http/1.1"] }).on("error", () => {})
})

/** A TLS record of a handshake that announces this length. */
const record = (body: Buffer, length = body.length) =>
  Buffer.concat([Buffer.from([0x16, 3, 1, length >> 8, length & 255]), body])

/** A ClientHello that announces 16 MB, and its first records. */
const endless = Buffer.concat([
  record(Buffer.concat([Buffer.from("01ffffff0303", "hex"), Buffer.alloc(16_378)])),
  ...Array.from({ length: 4 }, () => record(Buffer.alloc(16_384)))
])

type Hostile =
  | { readonly kind: "bytes"; readonly bytes: Buffer; readonly rest: "end" | "reset" }
  | { readonly kind: "silent"; readonly bytes: Buffer }
  | { readonly kind: "slow"; readonly bytes: Buffer }
  | { readonly kind: "renegotiation" }
  | { readonly kind: "garbage inside"; readonly bytes: Buffer }

const hostile = (hello: Buffer): fc.Arbitrary<Hostile> => {
  const bytes = (maxLength: number) => fc.uint8Array({ maxLength }).map((_) => Buffer.from(_))
  const cut = fc.nat({ max: hello.length }).map((at) => hello.subarray(0, at))
  const broken = fc.array(fc.tuple(fc.nat(), fc.nat({ max: 255 })), { minLength: 1, maxLength: 4 }).map((changes) => {
    const copy = Buffer.from(hello)
    for (const [at, byte] of changes) copy[at % copy.length] = byte
    return copy
  })
  const lying = fc.tuple(bytes(100), fc.nat({ max: 2 ** 16 - 1 })).map(([body, length]) => record(body, length))
  const alert = fc.tuple(fc.nat({ max: 255 }), fc.nat({ max: 255 })).map(([level, description]) =>
    Buffer.concat([hello, Buffer.of(0x15, 3, 3, 0, 2, level, description)])
  )
  const rest = fc.constantFrom("end" as const, "reset" as const)
  return fc.oneof(
    {
      weight: 30,
      arbitrary: fc.record({
        kind: fc.constant("bytes" as const),
        bytes: fc.oneof(bytes(400), cut, broken, lying, alert, fc.constant(endless), fc.constant(hello)),
        rest
      })
    },
    // both are borne for as long as a handshake may take
    { weight: 2, arbitrary: fc.record({ kind: fc.constant("silent" as const), bytes: fc.oneof(cut, lying, broken) }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant("slow" as const), bytes: fc.constant(hello) }) },
    { weight: 3, arbitrary: fc.constant({ kind: "renegotiation" as const }) },
    { weight: 3, arbitrary: fc.record({ kind: fc.constant("garbage inside" as const), bytes: bytes(400) }) }
  )
}

/** Bytes on a connection. Answers `closed`, or `silence` when the server never ends it. */
const wordless = (port: number, hostile: Extract<Hostile, { readonly kind: "bytes" | "silent" | "slow" }>) =>
  new Promise<string>((resolve) => {
    const socket = Net.connect(port, "127.0.0.1")
    let drip: NodeJS.Timeout | undefined
    let sent = 0
    const limit = setTimeout(() => {
      resolve("silence")
      socket.destroy()
    }, patience)
    socket.on("connect", () => {
      if (hostile.kind === "slow") {
        drip = setInterval(() => socket.writable && socket.write(hostile.bytes.subarray(sent, ++sent)), 500)
      } else if (hostile.kind === "silent") socket.write(hostile.bytes)
      else if (hostile.rest === "end") socket.end(hostile.bytes)
      else socket.write(hostile.bytes, () => socket.resetAndDestroy())
    })
    socket.on("error", () => {}).resume().on("close", () => {
      clearTimeout(limit)
      clearInterval(drip)
      resolve("closed")
    })
  })

/** A whole handshake of TLS 1.2, and then what no client should do. */
const shaken = (
  port: number,
  ca: string,
  hostile: Extract<Hostile, { readonly kind: "renegotiation" | "garbage inside" }>
) =>
  new Promise<string>((resolve) => {
    const wire = Net.connect(port, "127.0.0.1")
    const socket = NodeTls.connect({
      socket: wire,
      servername: "localhost",
      ca,
      ALPNProtocols: ["h2", "http/1.1"],
      maxVersion: "TLSv1.2"
    })
    const limit = setTimeout(() => {
      resolve("silence")
      wire.destroy()
    }, patience)
    socket.on("secureConnect", () => {
      if (hostile.kind === "renegotiation") {
        socket.renegotiate({}, (error) => {
          if (error === null) resolve("renegotiated")
          wire.destroy()
        })
      } else {
        // a record that no key of this connection has made
        wire.write(Buffer.concat([Buffer.of(0x17, 3, 3, 0, hostile.bytes.length & 255), hostile.bytes]))
        wire.end()
      }
    })
    socket.on("error", () => wire.destroy()).resume()
    wire.on("error", () => {}).on("close", () => {
      clearTimeout(limit)
      resolve("closed")
    })
  })

const make = Effect.gen(function*() {
  const secured = yield* Secured.make
  const { GRPC_TLS_CERT, GRPC_TLS_KEY } = secured.grpc
  const world = yield* World.make()
  const program = yield* Program.serve(["grpc"], {
    ...world.env,
    ...secured.grpc,
    HTTP_TLS_CERT: GRPC_TLS_CERT!,
    HTTP_TLS_KEY: GRPC_TLS_KEY!,
    KAFKA_CREATE_TOPICS: "true"
  })
  const get = (path: string) =>
    Effect.promise((signal) =>
      new Promise<Program.Answer>((resolve, reject) => {
        // a connection of its own: it waits among the hostile ones
        const options = { port: program.httpPort, path, ca: secured.credentials.ca, agent: false, signal }
        Https.get({ host: "127.0.0.1", ...options }, (response) => {
          let body = ""
          response.setEncoding("utf8").on("data", (text: string) => (body += text))
          response.on("end", () => resolve({ status: response.statusCode!, body }))
        }).on("error", reject)
      })
    )
  const ok = (path: string) =>
    Effect.filterOrDieMessage(get(path), ({ status }) => status === 200, `${path} is not 200`)
  yield* ok("/readyz").pipe(eventually("90 seconds"))
  const metric = (name: string) =>
    Effect.map(
      ok("/metrics"),
      ({ body }) =>
        [...body.matchAll(new RegExp(`^${name}(?:\\{.*\\})? (\\S+)$`, "gm"))].reduce((sum, [, n]) => sum + Number(n), 0)
    )
  const { call } = yield* Calls.make(program.grpc, secured.credentials)
  const stranger = Effect.scoped(
    Effect.flatMap(Calls.make(program.grpc, secured.credentials), ({ call }) => call("GetPing", {}))
  )
  const answers = <R>(ping: Effect.Effect<Calls.Called, never, R>) =>
    Effect.filterOrDie(ping, ({ code }) => code === "OK", ({ code, details }) => new Error(`${code}: ${details}`))
  return {
    metric,
    ca: secured.credentials.ca,
    surfaces: {
      gRPC: {
        port: Number(program.grpc.split(":")[1]),
        // over the connection that is open, and over a new one
        others: Effect.zipRight(answers(call("GetPing", {})), answers(stranger))
      },
      HTTP: { port: program.httpPort, others: ok("/livez") }
    }
  } as const
})

class Surfaces extends Context.Tag("test/Surfaces")<Surfaces, Effect.Effect.Success<typeof make>>() {}

layer(Layer.scoped(Surfaces, make), { timeout: "120 seconds", excludeTestServices: true })(
  "P11: handshakes of strangers",
  (it) => {
    for (const surface of ["gRPC", "HTTP"] as const) {
      it.scoped(
        `${connections} to ${surface} that are cut, slow, endless, broken or begun again: each ends, and others are served`,
        () =>
          Effect.gen(function*() {
            const seed = Seed.chosen()
            const { ca, metric, surfaces } = yield* Surfaces
            const { others, port } = surfaces[surface]
            const sampled = fc.sample(hostile(yield* clientHello), { numRuns: connections, seed })
            const one = (hostile: Hostile) =>
              hostile.kind === "renegotiation" || hostile.kind === "garbage inside"
                ? shaken(port, ca, hostile)
                : wordless(port, hostile)
            yield* each(sampled.slice(0, 500), atATime, one)
            const warm = yield* metric("payments_process_resident_memory_bytes")
            const began = performance.now()
            const [ends, seen] = yield* meanwhile<ReadonlyArray<string>, never, never>(others, "100 millis")(
              each(sampled, atATime, one)
            )
            const took = (performance.now() - began) / 1_000
            const grown = ((yield* metric("payments_process_resident_memory_bytes")) - warm) / 2 ** 20
            process.stdout.write(
              `${surface}, seed ${seed}: ${tally(sampled.map((hostile, i) => `${hostile.kind} ${ends[i]!}`))}; ` +
                `${took.toFixed(0)} s, ${grown.toFixed(0)} MiB; others: ${JSON.stringify(seen)}\n`
            )
            ends.forEach((end, i) =>
              assert.strictEqual(end, "closed", `${sampled[i]!.kind}, connection ${i}, seed ${seed}`)
            )
            assert.strictEqual(seen.refused, 0, `others were refused, seed ${seed}`)
            assert.isAbove(seen.answered, 10)
            assert.strictEqual(yield* metric("payments_service_restarts_total"), 0)
            assert.isBelow(grown, 200, "MiB that the program grew by")
          }),
        240_000
      )
    }
  }
)
