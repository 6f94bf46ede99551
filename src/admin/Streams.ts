import { HttpServerRequest, HttpServerResponse } from "@effect/platform"
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import type { Duration, Scope } from "effect"
import { Cause, Deferred, Effect, Exit, Mailbox, Stream } from "effect"
import { TooMany } from "./api/Refusals.js"

export interface StreamsOptions {
  /** Most open streams. */
  readonly most: number
  /** A stream ends after this time; a page opens the next one by itself. */
  readonly age: Duration.DurationInput
  /** Pause between two heartbeats, at which the right of the reader is checked again. Default: 15 seconds. */
  readonly heartbeat?: Duration.DurationInput | undefined
  /** Most events that wait for a reader; a reader with more is dropped. */
  readonly backlog: number
}

/** A page that reads a stream. */
export interface Reader {
  /** Gives the page an event; a page that does not read its events is dropped. */
  readonly send: (event: Uint8Array) => void
}

/** Why a stream ends. */
type End = "age" | "stop" | "signed out"

const encoder = new TextEncoder()
const heartbeatBytes = encoder.encode(":\n\n")

/** An event of a stream as bytes: the same for all readers. The data has no line breaks, because it is JSON. */
export const event = (name: string, data: unknown) =>
  encoder.encode(`event: ${name}\ndata: ${JSON.stringify(data)}\n\n`)

/**
 * Streams of server-sent events, limited in number and in age. A reader costs a connection and at most `backlog` events in
 * memory.
 */
export const make = Effect.fnUntraced(function*({ age, backlog, heartbeat = "15 seconds", most }: StreamsOptions) {
  const readers = new Set<{ readonly end: (why: End) => void }>()
  const stopped = yield* Deferred.make<void>()

  /**
   * Opens a stream for a request. `follow` runs while the stream is open; a defect of it is logged, and ends the stream.
   * `mayRead` is asked at each heartbeat. Fails with `TooMany` when all streams are taken.
   */
  const open = Effect.fnUntraced(function*<R>(
    mayRead: Effect.Effect<boolean>,
    follow: (reader: Reader) => Effect.Effect<void, never, R | Scope.Scope>
  ) {
    const request = yield* HttpServerRequest.HttpServerRequest
    const context = yield* Effect.context<Exclude<R, Scope.Scope>>()
    if (readers.size >= most || (yield* Deferred.isDone(stopped))) {
      return yield* new TooMany({
        message: `${most} streams of this kind are open: close a page, or wait`,
        retry_after_seconds: 10
      })
    }
    const body = Effect.gen(function*() {
      const mailbox = yield* Mailbox.make<Uint8Array>({ capacity: backlog, strategy: "dropping" })
      const end = (why: End) => {
        mailbox.unsafeOffer(event("end", { reason: why }))
        mailbox.unsafeDone(Exit.void)
      }
      const send = (bytes: Uint8Array) => {
        // a write that the page does not read waits for ever: only the end of the connection frees it
        if (!mailbox.unsafeOffer(bytes)) NodeHttpServerRequest.toServerResponse(request).destroy()
      }
      yield* Effect.acquireRelease(
        Effect.sync(() => {
          const reader = { end }
          readers.add(reader)
          return reader
        }),
        (reader) => Effect.sync(() => void readers.delete(reader))
      )
      const beat = Effect.flatMap(mayRead, (may) => Effect.sync(() => may ? send(heartbeatBytes) : end("signed out")))
      yield* Effect.forkScoped(Effect.forever(Effect.delay(beat, heartbeat)))
      yield* Effect.forkScoped(Effect.delay(Effect.sync(() => end("age")), age))
      yield* follow({ send }).pipe(
        Effect.provide(context),
        Effect.catchAllCause((cause) =>
          Cause.isInterruptedOnly(cause) ? Effect.void : Effect.logError("a bug ended a stream of the console", cause)
        ),
        Effect.ensuring(Effect.sync(() => end("stop"))),
        Effect.forkScoped
      )
      return Mailbox.toStream(mailbox)
    })
    return HttpServerResponse.stream(Stream.unwrapScoped(body as never), {
      contentType: "text/event-stream",
      // nginx holds events back otherwise
      headers: { "x-accel-buffering": "no" }
    })
  })

  /** Ends all streams, and takes no more. */
  const stop = Effect.zipRight(
    Deferred.succeed(stopped, undefined),
    Effect.sync(() => {
      for (const { end } of readers) end("stop")
    })
  )

  return { open, stop, size: () => readers.size } as const
})

export type Streams = Effect.Effect.Success<ReturnType<typeof make>>
