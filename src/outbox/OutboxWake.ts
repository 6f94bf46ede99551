import { SqlClient } from "@effect/sql"
import { Context, Effect, Layer, Queue } from "effect"

/** The channel on which a process without a relay tells the others that events wait. */
export const channel = "payments_outbox"

/**
 * Tells the relay that events were committed.
 *
 * Only a hint that saves it from waiting for its next poll: it may be lost, and never fails.
 */
export class OutboxWake extends Context.Tag("payments/OutboxWake")<OutboxWake, {
  /** Call it after the commit. */
  readonly announce: Effect.Effect<void>
  /** Ends at the next announcement, at once when there was one since the last call. */
  readonly announced: Effect.Effect<void>
}>() {
  /** For a process that runs the relay itself. */
  static readonly layerLocal = Layer.effect(
    OutboxWake,
    Effect.map(Queue.sliding<void>(1), (bell) => ({
      announce: Effect.asVoid(Queue.offer(bell, undefined)),
      announced: Queue.take(bell)
    }))
  )

  /**
   * For a process without a relay: notifies those that have one.
   *
   * Commits that follow each other faster than the database answers share a notification, which has a transaction
   * of its own: NOTIFY takes a lock of the whole server at commit, and no payment should wait for that.
   */
  static readonly layerNotify = Layer.scoped(
    OutboxWake,
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const bell = yield* Queue.sliding<void>(1)
      yield* Queue.take(bell).pipe(
        Effect.zipRight(Effect.ignore(sql`SELECT pg_notify(${channel}, '')`)),
        Effect.forever,
        Effect.forkScoped
      )
      return { announce: Effect.asVoid(Queue.offer(bell, undefined)), announced: Effect.never }
    })
  )
}
