import * as Grpc from "@grpc/grpc-js"
import { ReflectionService } from "@grpc/reflection"
import { Deferred, Duration, Effect, Fiber, FiberRef, Option, Record, Schema } from "effect"
import { AddressInUse } from "../runtime/AddressInUse.js"
import type { FileUnusable } from "../runtime/FileUnusable.js"
import { runFork } from "../runtime/tuning/Fork.js"
import { NumberMap } from "../runtime/tuning/NumberMap.js"
import type { TlsServerFiles } from "../tls/TlsServer.js"
import type { Refused } from "./auth/Authenticator.js"
import type { AccessOptions } from "./GrpcAccess.js"
import * as GrpcAccess from "./GrpcAccess.js"
import * as GrpcCall from "./GrpcCall.js"
import * as GrpcCredentials from "./GrpcCredentials.js"
import * as GrpcDefinition from "./GrpcDefinition.js"
import * as GrpcHealth from "./GrpcHealth.js"
import * as GrpcProcess from "./GrpcProcess.js"
import type { Refusal } from "./GrpcRefusal.js"
import * as GrpcSessions from "./GrpcSessions.js"
import * as GrpcStreams from "./GrpcStreams.js"

/** The server cannot listen at the address, for another reason than a taken port. */
export class GrpcServerError extends Schema.TaggedError<GrpcServerError>()("GrpcServerError", {
  address: Schema.String,
  variable: Schema.String,
  cause: Schema.Defect
}) {
  override get message() {
    const reason = this.cause instanceof Error ? this.cause.message : String(this.cause)
    return `gRPC cannot listen at ${this.address}, which ${this.variable} names: ${reason}`
  }
}

export interface ServerOptions<E, R> {
  /** `host:port`; port 0 selects a free port. */
  readonly address: string
  /** Environment variable that sets the address, for error messages. */
  readonly variable: string
  readonly protoFile: string
  /** Descriptor sets for reflection: of the service and of the health service. */
  readonly descriptorSets: ReadonlyArray<string>
  /** Full name of the service in the proto file. */
  readonly service: string
  /** Handlers by method name. `GrpcDefinition.load` documents the shape of messages. */
  readonly methods: Record.ReadonlyRecord<
    string,
    (request: never, caller: string | undefined) => Effect.Effect<object, E, R>
  >
  /** Scope of each method, by name, where callers are authenticated. A method without one is open, as health and reflection are. */
  readonly scopes: Record.ReadonlyRecord<string, string>
  readonly access: AccessOptions
  /** Undefined: no TLS. */
  readonly tls?: TlsServerFiles | undefined
  /** Maps a typed failure to a gRPC status. */
  readonly refuse: (error: E) => Refusal
  readonly limit: GrpcCall.Limit
  /** True when the health service answers SERVING. */
  readonly healthy: Effect.Effect<boolean, never, R>
  /** Time that a stop waits for running calls. Default: 5 seconds. */
  readonly drainLimit?: Duration.DurationInput
  /** Called once with the port. */
  readonly listening?: (port: number) => Effect.Effect<unknown>
}

const channelOptions: Grpc.ServerOptions = {
  "grpc.max_receive_message_length": GrpcDefinition.maxMessageBytes,
  "grpc.max_send_message_length": GrpcDefinition.maxMessageBytes,
  // a connection; far more than the database runs at a time
  "grpc.max_concurrent_streams": 1_000,
  // detects a vanished peer within 40 seconds and interrupts its calls
  "grpc.keepalive_time_ms": 30_000,
  "grpc.keepalive_timeout_ms": 10_000,
  // clients reconnect every 30 minutes, so that a new instance gets its share of calls
  "grpc.max_connection_age_ms": Duration.toMillis("30 minutes"),
  "grpc.max_connection_age_grace_ms": Duration.toMillis("30 seconds"),
  // counts every connection and message; no client reads it
  "grpc.enable_channelz": 0
}

/** node:http2 aborts when a session is destroyed while it reads (nodejs/node#64850): here no session reads. */
const afterReads = Effect.async<void>((resume) => void setImmediate(() => resume(Effect.void)))

/** Graceful stop: refuses new calls; running calls finish within the limit, or end with UNAVAILABLE. */
const stop = (
  server: Grpc.Server,
  calls: NumberMap<Fiber.RuntimeFiber<unknown, unknown>>,
  limit: Duration.DurationInput
) =>
  Effect.gen(function*() {
    const drained = yield* Deferred.make<void>()
    server.tryShutdown(() => Deferred.unsafeDone(drained, Effect.void))
    const within = (limit: Duration.DurationInput) =>
      Deferred.await(drained).pipe(Effect.interruptible, Effect.timeoutOption(limit))
    if (Option.isSome(yield* within(limit))) return
    yield* Fiber.interruptAll(calls.values()).pipe(
      Effect.interruptible,
      Effect.disconnect,
      Effect.timeoutOption("1 second")
    )
    yield* within("500 millis")
  }).pipe(Effect.ensuring(Effect.zipRight(
    afterReads,
    Effect.sync(() => {
      // before `forceShutdown`, which forgets the listeners
      GrpcSessions.destroy(server)
      server.forceShutdown()
    })
  )))

const bind = (
  server: Grpc.Server,
  credentials: Grpc.ServerCredentials,
  { address, variable }: { readonly address: string; readonly variable: string }
) => {
  const failure = (cause: unknown) =>
    String(cause).includes("EADDRINUSE")
      ? new AddressInUse({ address, variable })
      : new GrpcServerError({ address, variable, cause })
  return Effect.async<number, AddressInUse | GrpcServerError>((resume) =>
    server.bindAsync(
      address,
      credentials,
      (cause, port) => resume(cause === null ? Effect.succeed(port) : Effect.fail(failure(cause)))
    )
  ).pipe(Effect.catchAllDefect((cause) => Effect.fail(failure(cause))))
}

/**
 * Serves a gRPC service for ever, with health (`""` and the service) and reflection.
 *
 * On interruption health answers NOT_SERVING, streams end, running calls finish within `drainLimit`, and connections close.
 */
export const serve = <E, R>(
  options: ServerOptions<E, R>
): Effect.Effect<never, AddressInUse | GrpcServerError | FileUnusable, R> =>
  Effect.gen(function*() {
    const { access, drainLimit = "5 seconds", limit, methods, refuse, scopes, service } = options
    GrpcProcess.prepare()
    const calls = new NumberMap<Fiber.RuntimeFiber<object, E | Refused>>()
    // `GrpcCall` logs the failure of a call
    const fork = runFork(yield* Effect.withUnhandledErrorLogLevel(Effect.runtime<R>(), Option.none()))
    const shared: GrpcCall.Calls<E, R> = {
      clock: yield* Effect.clock,
      traced: yield* FiberRef.get(FiberRef.currentTracerEnabled),
      runFork: (effect) => {
        const fiber = fork(effect)
        const { id } = fiber.id()
        calls.set(id, fiber)
        fiber.addObserver(() => calls.delete(id))
        return fiber
      }
    }
    const definitions = GrpcDefinition.load(options.protoFile)
    const server = yield* Effect.acquireRelease(
      Effect.sync(() => new Grpc.Server(channelOptions)),
      (server) => stop(server, calls, drainLimit)
    )
    const health = yield* GrpcHealth.make(["", service], options.healthy)
    const streaming = GrpcStreams.remembering(server)
    yield* Effect.addFinalizer(() => Effect.zipRight(health.stop, Effect.sync(streaming.endStreams)))

    const admit = yield* GrpcAccess.make(access)
    const handlers = Record.map(methods, (handle, name) =>
      GrpcCall.unary({ service, name, admit: admit(name, scopes[name]), handle, refuse, limit }, shared))
    server.addService(GrpcDefinition.service(definitions, service), handlers)
    health.register(streaming)
    const files = options.descriptorSets.map((set, i) => [String(i), GrpcDefinition.reflected(set)])
    new ReflectionService(Object.fromEntries(files)).addToServer(streaming)

    const port = yield* bind(server, yield* GrpcCredentials.make(options.tls), options)
    GrpcSessions.numberStreams(server)
    yield* Effect.logInfo("gRPC listens").pipe(Effect.annotateLogs({ address: options.address, port }))
    if (options.listening !== undefined) {
      yield* options.listening(port)
    }
    return yield* Effect.never
  }).pipe(Effect.scoped)
