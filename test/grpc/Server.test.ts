import { assert, layer, vi } from "@effect/vitest"
import * as Grpc from "@grpc/grpc-js"
import * as ProtoLoader from "@grpc/proto-loader"
import { Chunk, Deferred, Effect, Exit, Fiber, Layer, Queue } from "effect"
import * as HealthCheck from "grpc-health-check"
import * as Http2 from "node:http2"
import NodeHttp2 from "node:http2"
import { createRequire } from "node:module"
import Descriptor from "protobufjs/ext/descriptor/index.js"
import * as PaymentsApi from "../../src/grpc/PaymentsApi.js"
import { AddressInUse } from "../../src/infra/runtime/AddressInUse.js"
import { NumberMap } from "../../src/infra/runtime/tuning/NumberMap.js"
import * as Prometheus from "../../src/ops/Prometheus.js"
import * as Locks from "../harness/Locks.js"
import * as PgTest from "../harness/PgTest.js"
import * as Proxy from "../harness/Proxy.js"
import * as Harness from "./Harness.js"

const live = Harness.services.pipe(Layer.provideMerge(PgTest.layer))

const connect = (address: string, definition: Grpc.ServiceDefinition) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const Client = Grpc.makeGenericClientConstructor(definition, "Service")
      return new Client(address, Grpc.credentials.createInsecure()) as any
    }),
    (client) => Effect.sync(() => client.close())
  )

const healthService = HealthCheck.service as unknown as Grpc.ServiceDefinition

/** The statuses from Watch, then `end`. */
const watch = (address: string, service: string) =>
  Effect.gen(function*() {
    const client = yield* connect(address, healthService)
    const told = yield* Queue.unbounded<string>()
    const stream = client.watch({ service })
    stream.on("data", ({ status }: { readonly status: string }) => Queue.unsafeOffer(told, status))
    stream.on("error", () => {}).on("end", () => Queue.unsafeOffer(told, "end"))
    return told
  })

const check = (address: string, service: string) =>
  Effect.flatMap(
    connect(address, healthService),
    (client) =>
      Effect.async<string>((resume) =>
        client.check({ service }, (error: Grpc.ServiceError | null, response: { readonly status: string }) =>
          resume(Effect.succeed(error === null ? response.status : Grpc.status[error.code]!)))
      )
  )

const until = (told: Queue.Dequeue<string>, status: string): Effect.Effect<void> =>
  Queue.take(told).pipe(Effect.repeat({ until: (next) => next === status }), Effect.asVoid)

layer(live, { excludeTestServices: true })("gRPC server", (it) => {
  it.scoped("its sessions keep their streams by number", () =>
    Effect.gen(function*() {
      const createServer = vi.spyOn(NodeHttp2, "createServer")
      yield* Effect.addFinalizer(() => Effect.sync(() => createServer.mockRestore()))
      const { client } = yield* Harness.start()
      const opened = yield* Deferred.make<Http2.ServerHttp2Session>()
      const server = createServer.mock.results[0]!.value as Http2.Http2Server
      server.on("session", (session) => Deferred.unsafeDone(opened, Effect.succeed(session)))
      yield* client.getPing
      const session = yield* Deferred.await(opened)
      const states = Object.getOwnPropertySymbols(session).map((symbol) => (session as any)[symbol]?.streams)
      assert.isTrue(states.some((streams) => streams instanceof NumberMap))
    }))

  it.scoped("a message over the limit is refused, and the server goes on", () =>
    Effect.gen(function*() {
      const { address, client } = yield* Harness.start()
      assert.strictEqual(yield* Harness.raw(address, "GetPing", new Uint8Array(65 * 1024)), "RESOURCE_EXHAUSTED")
      yield* client.getPing
    }))

  it.scoped("metadata over the limit is refused, and the server goes on", () =>
    Effect.gen(function*() {
      const { address, client } = yield* Harness.start()
      const metadata = new Grpc.Metadata()
      metadata.set("big", "x".repeat(100 * 1024))
      const raw = new Grpc.Client(address, Grpc.credentials.createInsecure())
      const bytes = (buffer: Buffer) => buffer
      const error = yield* Effect.async<Grpc.ServiceError | null>((resume) => {
        raw.makeUnaryRequest(
          "/paymentsapi.PaymentsApi/GetPing",
          bytes,
          bytes,
          Buffer.alloc(0),
          metadata,
          { deadline: Date.now() + 2_000 },
          (error) => resume(Effect.succeed(error))
        )
      })
      raw.close()
      assert.isNotNull(error)
      yield* client.getPing
    }))

  it.scoped("bytes that are not a message are refused, and the server goes on", () =>
    Effect.gen(function*() {
      const { address, client } = yield* Harness.start()
      assert.notStrictEqual(yield* Harness.raw(address, "UpdatePaymentStatus", Uint8Array.of(0x08)), "OK")
      yield* client.getPing
    }))

  it.scoped("health: Check and Watch follow the database", () =>
    Effect.gen(function*() {
      const proxy = yield* Proxy.make(yield* PgTest.DatabaseUrl)
      yield* Effect.gen(function*() {
        const { address } = yield* Harness.start()
        const told = yield* watch(address, "paymentsapi.PaymentsApi")
        yield* until(told, "SERVING")
        assert.deepStrictEqual(
          yield* Effect.all([check(address, ""), check(address, "paymentsapi.PaymentsApi"), check(address, "other")]),
          ["SERVING", "SERVING", "NOT_FOUND"]
        )
        yield* proxy.set("refuse")
        yield* until(told, "NOT_SERVING")
        assert.strictEqual(yield* check(address, ""), "NOT_SERVING")
        yield* proxy.set("pass")
        yield* until(told, "SERVING")
      }).pipe(Effect.provide(Layer.fresh(Harness.services).pipe(Layer.provide(Harness.postgresAt(proxy.port)))))
    }))

  it.scoped("reflection lists the services and gives their file", () =>
    Effect.gen(function*() {
      const { address } = yield* Harness.start()
      for (const version of ["v1", "v1alpha"]) {
        const file = createRequire(import.meta.url).resolve(
          `@grpc/reflection/build/proto/grpc/reflection/${version}/reflection.proto`
        )
        const definitions = ProtoLoader.loadSync(file)
        const service = definitions[`grpc.reflection.${version}.ServerReflection`] as Grpc.ServiceDefinition
        const client = yield* connect(address, service)
        const ask = (request: object) =>
          Effect.async<any>((resume) => {
            const stream = client.ServerReflectionInfo()
            stream.on("data", (response: unknown) => resume(Effect.succeed(response))).on("error", () => {})
            stream.write(request)
            stream.end()
          })
        const { listServicesResponse } = yield* ask({ listServices: "" })
        assert.sameMembers(listServicesResponse.service.map((_: { readonly name: string }) => _.name), [
          "paymentsapi.PaymentsApi",
          "grpc.health.v1.Health"
        ])
        const { fileDescriptorResponse } = yield* ask({ fileContainingSymbol: "paymentsapi.PayStatus" })
        // clients resolve types by full names in the imported files
        const files = fileDescriptorResponse.fileDescriptorProto.map((bytes: Uint8Array) =>
          Descriptor.FileDescriptorProto.decode(bytes)
        )
        const own = files.find((_: { readonly name: string }) => _.name === "payments.proto")
        assert.include(own.dependency, "google/protobuf/timestamp.proto")
        const types = own.messageType.flatMap((_: any) => _.field.map(({ typeName }: any) => typeName))
        assert.include(types, ".google.protobuf.Timestamp")
      }
    }))

  it.scoped("calls are counted by method and code, and timed", () =>
    Effect.gen(function*() {
      const { client } = yield* Harness.start()
      const scrape = yield* Prometheus.make("payments")
      const of = (series: string) =>
        Effect.map(scrape, (text) => {
          const line = text.split("\n").find((line) => line.startsWith(`${series} `))
          return line === undefined ? 0 : Number(line.slice(series.length + 1))
        })
      const notFound = of("payments_grpc_calls_total{method=\"GetPayment\",code=\"NOT_FOUND\"}")
      const timed = of("payments_grpc_call_duration_seconds_count{method=\"GetPayment\"}")
      const before = yield* Effect.all([notFound, timed])
      yield* Effect.flip(client.getPayment(999n))
      assert.deepStrictEqual(yield* Effect.all([notFound, timed]), [before[0] + 1, before[1] + 1])
    }))

  it.scoped("a stop: health is NOT_SERVING, streams end, running calls finish", () =>
    Effect.gen(function*() {
      const { address, client, server } = yield* Harness.start()
      const told = yield* watch(address, "")
      yield* until(told, "SERVING")
      yield* Harness.reserve(201n)
      const row = yield* Harness.lock(201n)
      const call = yield* Effect.fork(client.updatePaymentStatus(201n, "COMPLETED"))
      yield* Locks.waiting(1)
      const stopping = yield* Effect.fork(Fiber.interrupt(server))
      yield* until(told, "NOT_SERVING")
      yield* until(told, "end")
      yield* row.release
      yield* Fiber.join(call)
      assert.isTrue(Exit.isInterrupted(yield* Fiber.join(stopping)))
      assert.lengthOf(yield* Harness.eventsOf(201n), 1)
      assert.isEmpty(Chunk.toReadonlyArray(yield* Queue.takeAll(told)))
    }))

  it.scoped("a stop waits up to the drain limit: a call that never ends gets UNAVAILABLE", () =>
    Effect.gen(function*() {
      const { client, server } = yield* Harness.start({ drainLimit: "100 millis" })
      yield* Harness.reserve(211n)
      const row = yield* Harness.lock(211n)
      const call = yield* Effect.fork(Effect.flip(client.updatePaymentStatus(211n, "COMPLETED")))
      yield* Locks.waiting(1)
      yield* Fiber.interrupt(server).pipe(Effect.timeout("10 seconds"))
      const error = yield* Fiber.join(call)
      assert.deepStrictEqual([error.code, error.details], ["UNAVAILABLE", "the server is stopping"])
      yield* row.release
      assert.isEmpty(yield* Harness.eventsOf(211n))
    }))

  it.scoped("a stop cuts the connection of a client that never finishes its request", () =>
    Effect.gen(function*() {
      const { port, server } = yield* Harness.start({ drainLimit: "100 millis" })
      const closed = yield* Deferred.make<void>()
      const session = yield* Effect.async<Http2.ClientHttp2Session>((resume) => {
        const session = Http2.connect(`http://127.0.0.1:${port}`)
        session.on("error", () => {}).on("close", () => Deferred.unsafeDone(closed, Effect.void))
        session.request({
          ":method": "POST",
          ":path": "/paymentsapi.PaymentsApi/GetPing",
          "content-type": "application/grpc"
        }).on("error", () => {})
        // the server reacts to data after the request
        session.on("connect", () => session.ping(() => resume(Effect.succeed(session))))
      })
      assert.isFalse(session.closed)
      yield* Fiber.interrupt(server).pipe(Effect.timeout("10 seconds"))
      yield* Deferred.await(closed).pipe(Effect.timeout("10 seconds"))
    }))

  it.scoped("a port in use is a typed error with its solution, and the port is free after a stop", () =>
    Effect.gen(function*() {
      const { address, server } = yield* Harness.start()
      const error = yield* Effect.flip(PaymentsApi.serve({ address }))
      assert.instanceOf(error, AddressInUse)
      assert.include(error.message, address)
      assert.include(error.message, "GRPC_ADDR")
      yield* Fiber.interrupt(server)
      const listening = yield* Effect.makeLatch()
      yield* Effect.raceFirst(listening.await, PaymentsApi.serve({ address, listening: () => listening.open }))
    }))

  it.scoped("an invalid address is a typed error", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(PaymentsApi.serve({ address: "203.0.113.1:1" }))
      assert.strictEqual(error._tag, "GrpcServerError")
      assert.include(error.message, "GRPC_ADDR")
    }))
})
