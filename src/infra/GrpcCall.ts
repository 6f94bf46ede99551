import * as Grpc from "@grpc/grpc-js"
import type { Clock, Fiber } from "effect"
import { Cause, Duration, Effect, Exit, FiberId, Metric, MetricBoundaries, Option } from "effect"
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

/** The metrics of a method. To tag one anew for each call costs more than to count it. */
const metricsOf = (name: string) => {
  const byCode = new Map<Code | "OK", Metric.Metric.Counter<number>>()
  return {
    duration: Metric.tagged(duration, "method", name),
    calls: (code: Code | "OK") => {
      const known = byCode.get(code) ?? Metric.tagged(Metric.tagged(calls, "method", name), "code", code)
      byCode.set(code, known)
      return known
    }
  }
}

const internal: Refusal = { code: "INTERNAL", details: "internal error" }
const stopping: Refusal = { code: "UNAVAILABLE", details: "the server is stopping" }

const parentOf = (metadata: Grpc.Metadata) =>
  Option.match(Option.flatMap(Option.fromNullable(metadata.get("traceparent")[0]), (_) => Trace.parse(_.toString())), {
    onNone: () => ({ root: true }),
    onSome: (parent) => ({ parent })
  })

/** What the client is told: of an interruption, what it says of itself. */
const refusalOf = <E>(method: Method<E, any>, cause: Cause.Cause<E>, interruption: Refusal): Refusal =>
  Option.match(Cause.failureOption(cause), {
    onNone: () => Cause.isInterruptedOnly(cause) ? interruption : internal,
    onSome: method.refuse
  })

export type Reply<E> = Exit.Exit<object, E>

const answer = <E, R>(
  method: Method<E, R>,
  call: Grpc.ServerUnaryCall<any, any>
): Effect.Effect<Reply<E>, never, R> =>
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
    Effect.withSpan(`${method.service}/${method.name}`, {
      ...parentOf(call.metadata),
      kind: "server",
      captureStackTrace: false,
      attributes: { "rpc.system": "grpc", "rpc.service": method.service, "rpc.method": method.name }
    }),
    // a fiber that fails is logged a second time
    Effect.exit
  )

/**
 * A handler for grpc-js: one fiber a call, with a server span of its own.
 *
 * The fiber is interrupted when the client cancels, when its deadline passes by the clock of this process, and after
 * the limit: by a timer and not by `Effect.timeout`, which takes two fibers more for each call. A failure is answered
 * as `refuse` says and logged at debug; a bug is `INTERNAL`, and its cause is in the log only.
 */
export const unary = <E, R>(
  method: Method<E, R>,
  clock: Clock.Clock,
  runFork: (effect: Effect.Effect<Reply<E>, never, R>) => Fiber.RuntimeFiber<Reply<E>>
) => {
  const metrics = metricsOf(method.name)
  const limitMillis = Duration.toMillis(method.limit.duration)
  return (call: Grpc.ServerUnaryCall<any, any>, callback: Grpc.sendUnaryData<any>) => {
    const since = clock.unsafeCurrentTimeNanos()
    const count = (code: Code | "OK") => {
      metrics.calls(code).unsafeUpdate(1, [])
      metrics.duration.unsafeUpdate(Number(clock.unsafeCurrentTimeNanos() - since) / 1e9, [])
    }
    let interruption = stopping
    const fiber = runFork(answer(method, call))
    const timer = setTimeout(() => {
      interruption = method.limit.refusal
      fiber.unsafeInterruptAsFork(FiberId.none)
    }, limitMillis)
    // an observer also sees the interruption of a fiber that has not begun
    fiber.addObserver((ended) => {
      clearTimeout(timer)
      const exit = Exit.flatten(ended)
      if (Exit.isSuccess(exit)) {
        count("OK")
        return callback(null, exit.value)
      }
      const { code, details } = refusalOf(method, exit.cause, interruption)
      // a client that has gone is told nothing, and is counted by why it went
      const late = Number(call.getDeadline()) <= clock.unsafeCurrentTimeMillis()
      count(!call.cancelled ? code : late ? "DEADLINE_EXCEEDED" : "CANCELLED")
      callback({ code: Grpc.status[code], details })
    })
    // grpc-js says so for the deadline too
    call.on("cancelled", () => fiber.unsafeInterruptAsFork(FiberId.none))
  }
}
