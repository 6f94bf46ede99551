import * as Grpc from "@grpc/grpc-js"
import type { Fiber } from "effect"
import { Cause, Clock, Duration, Effect, Exit, FiberId, Metric, MetricBoundaries, Option } from "effect"
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

export type Reply = Exit.Exit<object, Refusal>

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

const codeOf = (call: Grpc.ServerUnaryCall<any, any>, now: number, exit: Exit.Exit<Reply>) =>
  Exit.match(exit, {
    onSuccess: Exit.match({
      onSuccess: () => "OK" as const,
      onFailure: (cause) => Option.getOrElse(Cause.failureOption(cause), () => internal).code
    }),
    onFailure: () =>
      !call.cancelled ? stopping.code : Number(call.getDeadline()) <= now ? "DEADLINE_EXCEEDED" : "CANCELLED"
  })

const answer = <E, R>(
  method: Method<E, R>,
  metrics: ReturnType<typeof metricsOf>,
  call: Grpc.ServerUnaryCall<any, any>
): Effect.Effect<Reply, never, R> =>
  Effect.suspend(() => method.handle(call.request as never)).pipe(
    Effect.tapErrorCause((cause) =>
      Option.isSome(Cause.failureOption(cause))
        ? Effect.logDebug("call refused", cause)
        : Cause.isInterruptedOnly(cause)
        ? Effect.logDebug("call interrupted")
        : Effect.logError("call failed", cause)
    ),
    Effect.withSpan(`${method.service}/${method.name}`, {
      ...parentOf(call.metadata),
      kind: "server",
      captureStackTrace: false,
      attributes: { "rpc.system": "grpc", "rpc.service": method.service, "rpc.method": method.name }
    }),
    Effect.matchCause({
      onSuccess: (response): Reply => Exit.succeed(response),
      onFailure: (cause): Reply =>
        Exit.fail(Option.match(Cause.failureOption(cause), { onNone: () => internal, onSome: method.refuse }))
    }),
    Metric.trackDurationWith(metrics.duration, Duration.toSeconds),
    Effect.onExit((exit) =>
      Effect.flatMap(
        Clock.currentTimeMillis,
        (now) => Metric.increment(metrics.calls(codeOf(call, now, exit)))
      )
    ),
    Effect.annotateLogs({ rpc: method.name })
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
  runFork: (effect: Effect.Effect<Reply, never, R>) => Fiber.RuntimeFiber<Reply>
) => {
  const metrics = metricsOf(method.name)
  const limitMillis = Duration.toMillis(method.limit.duration)
  return (call: Grpc.ServerUnaryCall<any, any>, callback: Grpc.sendUnaryData<any>) => {
    const refuse = ({ code, details }: Refusal) => callback({ code: Grpc.status[code], details })
    let interruption = stopping
    const fiber = runFork(answer(method, metrics, call))
    const timer = setTimeout(() => {
      interruption = method.limit.refusal
      fiber.unsafeInterruptAsFork(FiberId.none)
    }, limitMillis)
    // an observer also sees the interruption of a fiber that has not begun
    fiber.addObserver((exit) => {
      clearTimeout(timer)
      Exit.match(exit, {
        onFailure: () => refuse(interruption),
        onSuccess: Exit.match({
          onSuccess: (response) => callback(null, response),
          onFailure: (cause) => refuse(Option.getOrElse(Cause.failureOption(cause), () => internal))
        })
      })
    })
    // grpc-js says so for the deadline too
    call.on("cancelled", () => fiber.unsafeInterruptAsFork(FiberId.none))
  }
}
