import * as Grpc from "@grpc/grpc-js"
import type { Clock, Fiber } from "effect"
import { Cause, Duration, Effect, Exit, FiberId, Metric, MetricBoundaries, MetricLabel, Option } from "effect"
import * as Trace from "./Trace.js"

/** Why a call got no answer, by the names of gRPC. */
export type Code = Exclude<keyof typeof Grpc.status, "OK">

/** What a refused client is told. */
export interface Refusal {
  readonly code: Code
  readonly details: string
}

/** A method of a service: `<service>/<name>`, and what it does. */
export interface Method<E, R> {
  readonly service: string
  readonly name: string
  readonly handle: (request: never) => Effect.Effect<object, E, R>
  readonly refuse: (error: E) => Refusal
  readonly limit: Limit
}

/** How long a call may take, and what the client is told then. */
export interface Limit {
  readonly duration: Duration.DurationInput
  readonly refusal: Refusal
}

const calls = Metric.counter("payments_grpc_calls_total", {
  description: "gRPC calls by method and the code they ended with",
  incremental: true
})
const duration = Metric.histogram(
  "payments_grpc_call_duration_seconds",
  MetricBoundaries.fromIterable([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5]),
  "Time from the whole request to the reply, by method"
)

/** Counts the calls of a method. The labels are the same arrays for each: by these the registry is not asked anew. */
const counting = (name: string) => {
  const method = MetricLabel.make("method", name)
  const byMethod = [method]
  const byCode = new Map<Code | "OK", ReadonlyArray<MetricLabel.MetricLabel>>()
  return (code: Code | "OK", seconds: number) => {
    let labels = byCode.get(code)
    if (labels === undefined) byCode.set(code, labels = [method, MetricLabel.make("code", code)])
    calls.unsafeUpdate(1, labels)
    duration.unsafeUpdate(seconds, byMethod)
  }
}

const internal: Refusal = { code: "INTERNAL", details: "internal error" }
const stopping: Refusal = { code: "UNAVAILABLE", details: "the server is stopping" }

const parentOf = (metadata: Grpc.Metadata) => {
  const [traceparent] = metadata.get("traceparent")
  return traceparent === undefined ? undefined : Option.getOrUndefined(Trace.parse(traceparent.toString()))
}

/** In a span of its own where spans are gathered; else in the client's, for what is written on its behalf. */
const inSpan =
  <E, R>(method: Method<E, R>, metadata: Grpc.Metadata, traced: boolean) => (effect: Effect.Effect<object, E, R>) => {
    const parent = parentOf(metadata)
    if (!traced) return parent === undefined ? effect : Effect.withParentSpan(effect, parent)
    return Effect.withSpan(effect, `${method.service}/${method.name}`, {
      ...(parent === undefined ? { root: true } : { parent }),
      kind: "server",
      captureStackTrace: false,
      attributes: { "rpc.system": "grpc", "rpc.service": method.service, "rpc.method": method.name }
    })
  }

/** What the client is told: of an interruption, what it says of itself. */
const refusalOf = <E>(method: Method<E, any>, cause: Cause.Cause<E>, interruption: Refusal): Refusal =>
  Option.match(Cause.failureOption(cause), {
    onNone: () => Cause.isInterruptedOnly(cause) ? interruption : internal,
    onSome: method.refuse
  })

const answer = <E, R>(
  method: Method<E, R>,
  call: Grpc.ServerUnaryCall<any, any>,
  traced: boolean
): Effect.Effect<object, E, R> =>
  Effect.suspend(() => method.handle(call.request as never)).pipe(
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
    inSpan(method, call.metadata, traced)
  )

/** What the calls of a server share. */
export interface Calls<E, R> {
  readonly clock: Clock.Clock
  readonly runFork: (effect: Effect.Effect<object, E, R>) => Fiber.RuntimeFiber<object, E>
  /** Whether spans are gathered. */
  readonly traced: boolean
}

/**
 * A handler for grpc-js: one fiber a call.
 *
 * The fiber is interrupted when the client cancels, when its deadline passes by the clock of this process, and after
 * the limit: by a timer and not by `Effect.timeout`, which takes two fibers more for each call. A failure is answered
 * as `refuse` says and logged at debug; a bug is `INTERNAL`, and its cause is in the log only.
 */
export const unary = <E, R>(
  method: Method<E, R>,
  { clock, runFork, traced }: Calls<E, R>
) => {
  const counted = counting(method.name)
  const limitMillis = Duration.toMillis(method.limit.duration)
  return (call: Grpc.ServerUnaryCall<any, any>, callback: Grpc.sendUnaryData<any>) => {
    const since = clock.unsafeCurrentTimeNanos()
    const count = (code: Code | "OK") => counted(code, Number(clock.unsafeCurrentTimeNanos() - since) / 1e9)
    let interruption = stopping
    let answered = false
    const fiber = runFork(answer(method, call, traced))
    const timer = setTimeout(() => {
      interruption = method.limit.refusal
      fiber.unsafeInterruptAsFork(FiberId.none)
    }, limitMillis)
    // an observer also sees the interruption of a fiber that has not begun
    fiber.addObserver((exit) => {
      clearTimeout(timer)
      answered = true
      if (Exit.isSuccess(exit)) {
        callback(null, exit.value)
        return count("OK")
      }
      const { code, details } = refusalOf(method, exit.cause, interruption)
      // a client that has gone is told nothing, and is counted by why it went
      const late = Number(call.getDeadline()) <= clock.unsafeCurrentTimeMillis()
      count(!call.cancelled ? code : late ? "DEADLINE_EXCEEDED" : "CANCELLED")
      callback({ code: Grpc.status[code], details })
    })
    // grpc-js says so for the deadline too, and at the end of every call
    call.on("cancelled", () => {
      if (!answered) fiber.unsafeInterruptAsFork(FiberId.none)
    })
  }
}
