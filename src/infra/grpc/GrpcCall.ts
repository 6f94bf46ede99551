import * as Grpc from "@grpc/grpc-js"
import type { Clock, Fiber } from "effect"
import { Cause, Duration, Effect, Exit, FiberId, Metric, MetricBoundaries, MetricLabel, Option } from "effect"
import * as Trace from "../runtime/Trace.js"
import { Refused } from "./auth/Authenticator.js"
import type { Admit } from "./GrpcAccess.js"
import * as GrpcErrorInfo from "./GrpcErrorInfo.js"
import type { Code, Refusal } from "./GrpcRefusal.js"

/** A method of a service, `<service>/<name>`, and its handler. */
export interface Method<E, R> {
  readonly service: string
  readonly name: string
  readonly admit: Admit
  /** Gets the name of the caller, where it has one. */
  readonly handle: (request: never, caller: string | undefined) => Effect.Effect<object, E, R>
  readonly refuse: (error: E) => Refusal
  readonly limit: Limit
}

/** Longest duration of a call, and the status after it. */
export interface Limit {
  readonly duration: Duration.DurationInput
  readonly refusal: Refusal
}

const calls = Metric.counter("payments_grpc_calls_total", {
  description: "gRPC calls by method and status code",
  incremental: true
})
const duration = Metric.histogram(
  "payments_grpc_call_duration_seconds",
  MetricBoundaries.fromIterable([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5]),
  "Time from the complete request to the reply, by method"
)

/** Codes whose series exist from the start. */
const usual = [
  "OK",
  "INVALID_ARGUMENT",
  "NOT_FOUND",
  "FAILED_PRECONDITION",
  "UNAUTHENTICATED",
  "PERMISSION_DENIED",
  "RESOURCE_EXHAUSTED",
  "UNAVAILABLE",
  "DEADLINE_EXCEEDED",
  "CANCELLED",
  "INTERNAL"
] as const

/** Counts the calls of a method. Reuses the label arrays, which the metric registry looks up by identity. */
const counting = (name: string) => {
  const method = MetricLabel.make("method", name)
  const byMethod = [method]
  const byCode = new Map<Code | "OK", ReadonlyArray<MetricLabel.MetricLabel>>()
  const add = (code: Code | "OK", count: number) => {
    let labels = byCode.get(code)
    if (labels === undefined) byCode.set(code, labels = [method, MetricLabel.make("code", code)])
    calls.unsafeUpdate(count, labels)
  }
  for (const code of usual) add(code, 0)
  duration.unsafeValue(byMethod)
  return (code: Code | "OK", seconds: number) => {
    add(code, 1)
    duration.unsafeUpdate(seconds, byMethod)
  }
}

const internal: Refusal = { code: "INTERNAL", details: "internal error", reason: "INTERNAL" }
const stopping: Refusal = { code: "UNAVAILABLE", details: "the server is stopping", reason: "SERVER_STOPPING" }

const parentOf = (metadata: Grpc.Metadata) => {
  const [traceparent] = metadata.get("traceparent")
  return traceparent === undefined ? undefined : Option.getOrUndefined(Trace.parse(traceparent.toString()))
}

/** The status for a failed call; an interrupted call gets `interruption`. */
const refusalOf = <E>(method: Method<E, any>, cause: Cause.Cause<E | Refused>, interruption: Refusal): Refusal =>
  Option.match(Cause.failureOption(cause), {
    onNone: () => Cause.isInterruptedOnly(cause) ? interruption : internal,
    onSome: (error) => error instanceof Refused ? error.refusal : method.refuse(error)
  })

/** The codes that the conventions count as errors of a server; with the others it did what it should. */
const serverErrors: ReadonlySet<string> = new Set<Code>([
  "UNKNOWN",
  "DEADLINE_EXCEEDED",
  "UNIMPLEMENTED",
  "INTERNAL",
  "UNAVAILABLE",
  "DATA_LOSS"
])

/**
 * Runs a call in a server span when a collector is set and the client's span is sampled; otherwise in the client's span, so
 * that its events carry that trace.
 * Attributes by the OpenTelemetry semantic conventions 1.45 (https://opentelemetry.io/docs/specs/semconv/rpc/grpc).
 */
const inSpan =
  <E, R>(method: Method<E, R>, call: Grpc.ServerUnaryCall<any, any>, traced: boolean, interruption: () => Refusal) =>
  (effect: Effect.Effect<object, E | Refused, R>) => {
    const parent = parentOf(call.metadata)
    if (!traced) return parent === undefined ? effect : Effect.withParentSpan(effect, parent)
    if (parent?.sampled === false) return effect.pipe(Effect.withParentSpan(parent), Effect.withTracerEnabled(false))
    const name = `${method.service}/${method.name}`
    const codeOf = (exit: Exit.Exit<object, E | Refused>) =>
      Exit.isSuccess(exit) ? "OK" : call.cancelled ? "CANCELLED" : refusalOf(method, exit.cause, interruption()).code
    return effect.pipe(
      Effect.onExit((exit) => {
        const code = codeOf(exit)
        return Effect.annotateCurrentSpan({
          "rpc.status_code": code,
          ...(serverErrors.has(code) ? { "error.type": code } : {})
        })
      }),
      // a refusal that the caller should get is no error of the span
      Effect.exit,
      Effect.flatMap((exit): Effect.Effect<Exit.Exit<object, E | Refused>, E | Refused> =>
        serverErrors.has(codeOf(exit)) ? Effect.zipRight(exit, Effect.succeed(exit)) : Effect.succeed(exit)
      ),
      Effect.withSpan(name, {
        ...(parent === undefined ? { root: true } : { parent }),
        kind: "server",
        captureStackTrace: false,
        attributes: { "rpc.system.name": "grpc", "rpc.method": name }
      }),
      Effect.flatten
    )
  }

const answer = <E, R>(
  method: Method<E, R>,
  call: Grpc.ServerUnaryCall<any, any>,
  traced: boolean,
  interruption: () => Refusal
): Effect.Effect<object, E | Refused, R> =>
  Effect.suspend(() => Effect.flatMap(method.admit(call), (caller) => method.handle(call.request as never, caller)))
    .pipe(
      Effect.tapErrorCause((cause) =>
        Effect.annotateLogs(
          Option.isSome(Cause.failureOption(cause))
            ? Effect.logDebug("call refused", cause)
            : Cause.isInterruptedOnly(cause)
            ? Effect.logDebug("call interrupted")
            : Effect.logError("call failed", cause),
          { rpc: method.name }
        )
      ),
      inSpan(method, call, traced, interruption)
    )

/** State that all calls of a server share. */
export interface Calls<E, R> {
  readonly clock: Clock.Clock
  readonly runFork: (effect: Effect.Effect<object, E | Refused, R>) => Fiber.RuntimeFiber<object, E | Refused>
  /** True when a collector is set. */
  readonly traced: boolean
}

/**
 * A unary handler for grpc-js: one fiber a call.
 *
 * The fiber is interrupted when the client cancels, when the deadline passes by this process's clock, and after the
 * limit. The limit is a timer, because `Effect.timeout` takes two more fibers a call. A typed failure is answered as
 * `refuse` says and logged at debug level. A defect is answered `INTERNAL`; only the log has its cause.
 */
export const unary = <E, R>(
  method: Method<E, R>,
  { clock, runFork, traced }: Calls<E, R>
) => {
  const counted = counting(method.name)
  const domain = method.service.slice(0, method.service.lastIndexOf("."))
  const limitMillis = Duration.toMillis(method.limit.duration)
  return (call: Grpc.ServerUnaryCall<any, any>, callback: Grpc.sendUnaryData<any>) => {
    const since = clock.unsafeCurrentTimeNanos()
    const count = (code: Code | "OK") => counted(code, Number(clock.unsafeCurrentTimeNanos() - since) / 1e9)
    let interruption = stopping
    let answered = false
    const fiber = runFork(answer(method, call, traced, () => interruption))
    const timer = setTimeout(() => {
      interruption = method.limit.refusal
      fiber.unsafeInterruptAsFork(FiberId.none)
    }, limitMillis)
    // an observer also sees the interruption of a fiber that never started
    fiber.addObserver((exit) => {
      clearTimeout(timer)
      answered = true
      if (Exit.isSuccess(exit)) {
        callback(null, exit.value)
        return count("OK")
      }
      const { code, details, metadata = {}, reason, retryMillis } = refusalOf(method, exit.cause, interruption)
      // a cancelled call gets no answer; the metric counts the reason of the cancellation
      const late = Number(call.getDeadline()) <= clock.unsafeCurrentTimeMillis()
      count(!call.cancelled ? code : late ? "DEADLINE_EXCEEDED" : "CANCELLED")
      callback({
        code: Grpc.status[code],
        details,
        metadata: GrpcErrorInfo.trailers(Grpc.status[code], details, { reason, domain, metadata }, retryMillis)
      })
    })
    // grpc-js emits `cancelled` for a passed deadline too, and at the end of every call
    call.on("cancelled", () => {
      if (!answered) fiber.unsafeInterruptAsFork(FiberId.none)
    })
  }
}
