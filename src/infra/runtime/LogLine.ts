import { Cause, Context, FiberRef, FiberRefs, Inspectable, Logger, Option, Tracer } from "effect"

/** A value of a log field: JSON with plain numbers and texts. */
const field = (value: unknown): unknown =>
  typeof value === "bigint" ? String(value) : value instanceof Error ? value.message : Inspectable.toJSON(value)

/** The message is text, also when a caller has logged several values or an error. */
const text = (message: unknown): string =>
  (Array.isArray(message) ? message : [message])
    .map((part: unknown) => part instanceof Error ? part.message : Inspectable.toStringUnknown(part, 0))
    .join(": ")

/** A line of JSON at the present time. */
export const write = (
  level: string,
  message: string,
  fields: Readonly<Record<string, unknown>> = {},
  date = new Date()
) => JSON.stringify({ timestamp: date.toISOString(), level, message, ...fields })

/**
 * A log line as JSON: `timestamp`, `level`, `message` (always text), then the annotations as fields, `trace_id` and `span_id` of
 * the current span, and `cause` of a logged failure.
 */
export const json: Logger.Logger<unknown, string> = Logger.make(
  ({ annotations, cause, context, date, logLevel, message }) => {
    const fields: Record<string, unknown> = {}
    for (const [name, value] of annotations) fields[name] = field(value)
    const span = Context.getOption(FiberRefs.getOrDefault(context, FiberRef.currentContext), Tracer.ParentSpan)
    // without a collector spans are placeholders
    if (Option.isSome(span) && span.value.traceId !== "noop") {
      fields["trace_id"] = span.value.traceId
      fields["span_id"] = span.value.spanId
    }
    if (!Cause.isEmpty(cause)) fields["cause"] = Cause.pretty(cause, { renderErrorCause: true })
    return write(logLevel.label, text(message), fields, date)
  }
)
