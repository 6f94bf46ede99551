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
      onSuccess: () => "OK",
      onFailure: (cause) => Option.getOrElse(Cause.failureOption(cause), () => internal).code
    }),
    onFailure: () =>
      !call.cancelled ? stopping.code : Number(call.getDeadline()) <= now ? "DEADLINE_EXCEEDED" : "CANCELLED"
  })

const answer = <E, R>(method: Method<E, R>, call: Grpc.ServerUnaryCall<any, any>): Effect.Effect<Reply, never, R> =>
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
      attributes: { "rpc.system": "grpc", "rpc.service": method.service, "rpc.method": method.name }
    }),
    Effect.matchCause({
      onSuccess: (response): Reply => Exit.succeed(response),
      onFailure: (cause): Reply =>
        Exit.fail(Option.match(Cause.failureOption(cause), { onNone: () => internal, onSome: method.refuse }))
    }),
    Metric.trackDurationWith(Metric.tagged(duration, "method", method.name), Duration.toSeconds),
    Effect.onExit((exit) =>
      Effect.flatMap(
        Clock.currentTimeMillis,
        (now) =>
          Metric.increment(Metric.tagged(Metric.tagged(calls, "method", method.name), "code", codeOf(call, now, exit)))
      )
    ),
    Effect.annotateLogs({ rpc: method.name })
  )

/**
 * A handler for grpc-js: one fiber a call, with a server span of its own.
 *
 * The fiber is interrupted when the client cancels and when its deadline passes by the clock of this process. A
 * failure is answered as `refuse` says and logged at debug; a bug is `INTERNAL`, and its cause is in the log only.
 */
export const unary =
  <E, R>(method: Method<E, R>, runFork: (effect: Effect.Effect<Reply, never, R>) => Fiber.RuntimeFiber<Reply>) =>
  (call: Grpc.ServerUnaryCall<any, any>, callback: Grpc.sendUnaryData<any>) => {
    const refuse = ({ code, details }: Refusal) => callback({ code: Grpc.status[code], details })
    const fiber = runFork(answer(method, call))
    // an observer also sees the interruption of a fiber that has not begun
    fiber.addObserver(Exit.match({
      onFailure: () => refuse(stopping),
      onSuccess: Exit.match({
        onSuccess: (response) => callback(null, response),
        onFailure: (cause) => refuse(Option.getOrElse(Cause.failureOption(cause), () => internal))
      })
    }))
    // grpc-js says so for the deadline too
    call.on("cancelled", () => fiber.unsafeInterruptAsFork(FiberId.none))
  }
