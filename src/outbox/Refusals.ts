import { Effect } from "effect"
import * as Digest from "../infra/runtime/Digest.js"
import type { OutboxEvent } from "./OutboxEvent.js"
import * as RelayMetrics from "./RelayMetrics.js"

interface Example {
  readonly event_id: string
  readonly order_id: string
  readonly reason: string
  readonly trace_id?: string
}

/**
 * Counts and logs the events that a broker refuses: a dead event is in the count of exactly one line. A burst of hundreds is one
 * line, with the fields of three.
 */
export class Refusals extends Effect.Service<Refusals>()("payments/Refusals", {
  scoped: Effect.gen(function*() {
    const dead = yield* Digest.make<Example>(({ count, examples }) =>
      Effect.annotateLogs(
        Effect.logError(
          count === 1
            ? "an event is dead: its order waits for an operator"
            : `${count} events are dead: their orders wait for an operator`
        ),
        { part: "outbox-relay", count, examples }
      )
    )
    const retried = yield* Digest.make<Example>(({ count, examples }) =>
      Effect.annotateLogs(
        Effect.logError(
          count === 1
            ? "the broker refused an event: the relay tries it again"
            : `the broker refused events ${count} times: the relay tries them again`
        ),
        { part: "outbox-relay", count, examples }
      )
    )

    /** A broker has refused the event. `status` is its new status; undefined when it did not change. */
    const add = (event: OutboxEvent, status: "WAIT" | "DEAD" | undefined, reason: string) => {
      RelayMetrics.refused(status)
      const log = status === "DEAD" ? dead : retried
      const traceId = event.traceparent?.split("-")[1]
      log({ event_id: event.id, order_id: event.key, reason, ...(traceId === undefined ? {} : { trace_id: traceId }) })
    }

    return { add } as const
  })
}) {}
