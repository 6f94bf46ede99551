import type { Effect, Scope } from "effect"
import { Context } from "effect"
import type { OutboxEvent } from "../OutboxEvent.js"

/** What became of the events of a claim. */
export interface Published {
  /** On the topic, acknowledged by every in-sync replica. */
  readonly sent: ReadonlyArray<OutboxEvent>
  /** The broker refused the event for what it is. */
  readonly refused: ReadonlyArray<{ readonly event: OutboxEvent; readonly reason: string }>
  /** Certainly not on the topic: their topic does not exist, or sending was stopped before them. */
  readonly unsent: ReadonlyArray<OutboxEvent>
  /** Stopped while the broker owed an answer: may be on the topic, or still come to it. */
  readonly undecided: ReadonlyArray<OutboxEvent>
}

/** Told what the way of a claim has to wait for. */
export interface Outages {
  /** It waits, and tries again by itself. */
  readonly waits: (problem: string) => void
  /** Events of this topic are not sent now. */
  readonly missing: (topic: string, problem: string) => void
  /** Events of this topic were sent. */
  readonly reached: (topic: string) => void
}

/**
 * The way of one claim after the other to their topics. A whole claim at a time.
 *
 * It waits for a broker that is away as long as `mayStart` allows, and asks that right before each attempt. Nothing
 * of a claim is on the topic twice because of it: an attempt without an answer is repeated in a way the broker knows.
 */
export interface Publisher {
  readonly publish: (
    events: ReadonlyArray<OutboxEvent>,
    mayStart: () => boolean,
    outages: Outages
  ) => Effect.Effect<Published>
}

/** Where events go. Claims that are under way at the same time need a publisher each. */
export class EventPublisher extends Context.Tag("payments/EventPublisher")<EventPublisher, {
  readonly open: Effect.Effect<Publisher, never, Scope.Scope>
}>() {}
