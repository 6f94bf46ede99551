import type { Effect, Scope } from "effect"
import { Context } from "effect"
import type { Place } from "../../infra/kafka/KafkaSpan.js"
import type { Problem } from "../../infra/runtime/Problem.js"
import type { OutboxEvent } from "../OutboxEvent.js"

/** Result of publishing a claim: each event is in one of the lists. */
export interface Published {
  /** On the topic, acknowledged by every in-sync replica. */
  readonly sent: ReadonlyArray<OutboxEvent>
  /** The broker refused the event for its content. */
  readonly refused: ReadonlyArray<{ readonly event: OutboxEvent; readonly reason: string }>
  /** Certainly not on the topic: the topic does not exist, its partition has no leader, or sending stopped before them. */
  readonly unsent: ReadonlyArray<OutboxEvent>
  /** Sending stopped before the broker answered: perhaps on the topic, or still on the way to it. */
  readonly undecided: ReadonlyArray<OutboxEvent>
  /** With a collector: the places of the events on their topics, where the broker has said them. */
  readonly places?: ReadonlyMap<OutboxEvent, Place | undefined>
}

/** Receives what delays a claim. */
export interface Outages {
  /** The publisher waits for the brokers, and attempts again by itself. */
  readonly waits: (problem: Problem) => void
  /** The topic does not exist, or its partition (`topic/partition`) has no leader: its events are not sent now. */
  readonly missing: (topic: string, problem: Problem) => void
  /** Events of this topic were sent. */
  readonly reached: (topic: string) => void
}

/**
 * Sends claims to their topics, one after the other.
 *
 * It waits for a broker that is away as long as `mayStart` allows, and reads that right before each attempt. It doubles no
 * record: it repeats an attempt without an answer with the same sequence numbers, and the broker drops what it has.
 */
export interface Publisher {
  readonly publish: (
    events: ReadonlyArray<OutboxEvent>,
    mayStart: () => boolean,
    outages: Outages
  ) => Effect.Effect<Published>
}

/** Opens publishers. Claims that are under way at the same time need a publisher each. */
export class EventPublisher extends Context.Tag("payments/EventPublisher")<EventPublisher, {
  readonly open: Effect.Effect<Publisher, never, Scope.Scope>
}>() {}
