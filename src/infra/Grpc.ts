import * as Grpc from "@grpc/grpc-js"
import { ReflectionService } from "@grpc/reflection"
import { Deferred, Duration, Effect, Fiber, FiberRef, Option, Record, Schema } from "effect"
import { AddressInUse } from "./AddressInUse.js"
import { runFork } from "./Fork.js"
import * as GrpcCall from "./GrpcCall.js"
import * as GrpcDefinition from "./GrpcDefinition.js"
import * as GrpcHealth from "./GrpcHealth.js"
import * as GrpcSessions from "./GrpcSessions.js"
import * as GrpcStreams from "./GrpcStreams.js"
import { Numbered } from "./Numbered.js"

/** The server cannot listen there, for another reason than a taken port. */
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
  /** `host:port`; port 0 takes a free one. */
  readonly address: string
  /** The environment variable that named the address. */
  readonly variable: string
  readonly protoFile: string
  /** What reflection tells: descriptor sets of the service and of the health service. */
  readonly descriptorSets: ReadonlyArray<string>
  /** Full name of the service in the file. */
  readonly service: string
  /** What the methods do, by their names in the file. Messages are as `GrpcDefinition.load` says. */
  readonly methods: Record.ReadonlyRecord<string, (request: never) => Effect.Effect<object, E, R>>
  /** What a client is told of a failure. */
  readonly refuse: (error: E) => GrpcCall.Refusal
  readonly limit: GrpcCall.Limit
  /** Whether the health service answers SERVING. */
  readonly healthy: Effect.Effect<boolean, never, R>
  /** How long a stop waits for calls in hand. Default: 5 seconds. */
  readonly drainLimit?: Duration.DurationInput
  /** Told the port, once. */
  readonly listening?: (port: number) => Effect.Effect<unknown>
}

const channelOptions: Grpc.ServerOptions = {
  "grpc.max_receive_message_length": GrpcDefinition.maxMessageBytes,
  "grpc.max_send_message_length": GrpcDefinition.maxMessageBytes,
  // of one connection; far more than the database takes at a time
  "grpc.max_concurrent_streams": 1_000,
  // a peer that vanished is noticed within 40 seconds, and its calls are interrupted
  "grpc.keepalive_time_ms": 30_000,
  "grpc.keepalive_timeout_ms": 10_000,
  // clients connect again now and then, so that a new instance gets its share
  "grpc.max_connection_age_ms": Duration.toMillis("30 minutes"),
  "grpc.max_connection_age_grace_ms": Duration.toMillis("30 seconds"),
  // counters of each connection and message, which nobody asks for
  "grpc.enable_channelz": 0
}

/** A stop: no new calls; those in hand finish within the limit, or are told that the server is stopping. */
const stop = (
  server: Grpc.Server,
  calls: Numbered<Fiber.RuntimeFiber<unknown, unknown>>,
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
  }).pipe(Effect.ensuring(Effect.sync(() => {
    // before: it forgets what listens
    GrpcSessions.destroy(server)
    server.forceShutdown()
  })))

const bind = (server: Grpc.Server, { address, variable }: { readonly address: string; readonly variable: string }) => {
  const failure = (cause: unknown) =>
    String(cause).includes("EADDRINUSE")
      ? new AddressInUse({ address, variable })
      : new GrpcServerError({ address, variable, cause })
  return Effect.async<number, AddressInUse | GrpcServerError>((resume) =>
    server.bindAsync(
      address,
      Grpc.ServerCredentials.createInsecure(),
      (cause, port) => resume(cause === null ? Effect.succeed(port) : Effect.fail(failure(cause)))
    )
  ).pipe(Effect.catchAllDefect((cause) => Effect.fail(failure(cause))))
}

/**
 * Serves a gRPC service, with health (`""` and the service) and reflection, for ever.
 *
 * On interruption: health turns to NOT_SERVING, streams end, calls in hand finish within `drainLimit`, connections close.
 */
export const serve = <E, R>(
  options: ServerOptions<E, R>
): Effect.Effect<never, AddressInUse | GrpcServerError, R> =>
  Effect.gen(function*() {
    const { drainLimit = "5 seconds", limit, methods, refuse, service } = options
    const calls = new Numbered<Fiber.RuntimeFiber<object, E>>()
    // what a call fails with is logged where it is answered
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
    // its log goes to the console; all that matters comes back as an error
    Grpc.setLogVerbosity(Grpc.logVerbosity.NONE)
    const server = yield* Effect.acquireRelease(
      Effect.sync(() => new Grpc.Server(channelOptions)),
      (server) => stop(server, calls, drainLimit)
    )
    const health = yield* GrpcHealth.make(["", service], options.healthy)
    const streaming = GrpcStreams.remembering(server)
    yield* Effect.addFinalizer(() => Effect.zipRight(health.stop, Effect.sync(streaming.endStreams)))

    const handlers = Record.map(methods, (handle, name) =>
      GrpcCall.unary({ service, name, handle, refuse, limit }, shared))
    server.addService(GrpcDefinition.service(definitions, service), handlers)
    health.register(streaming)
    const files = options.descriptorSets.map((set, i) => [String(i), GrpcDefinition.reflected(set)])
    new ReflectionService(Object.fromEntries(files)).addToServer(streaming)

    const port = yield* bind(server, options)
    GrpcSessions.numberStreams(server)
    yield* Effect.logInfo("gRPC listens").pipe(Effect.annotateLogs({ address: options.address, port }))
    if (options.listening !== undefined) {
      yield* options.listening(port)
    }
    return yield* Effect.never
  }).pipe(Effect.scoped)
