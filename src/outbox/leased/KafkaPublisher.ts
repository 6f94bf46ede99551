import { Array as Arr, Effect, Layer } from "effect"
import type { KafkaOptions, KafkaUnavailable } from "../../infra/kafka/KafkaClient.js"
import * as KafkaProducer from "../../infra/kafka/KafkaProducer.js"
import * as KafkaProducerSlot from "../../infra/kafka/KafkaProducerSlot.js"
import * as Trace from "../../infra/runtime/Trace.js"
import * as EventRecord from "../EventRecord.js"
import type { OutboxEvent } from "../OutboxEvent.js"
import { Spreads } from "../Spreads.js"
import type { Outages, Published, Publisher } from "./EventPublisher.js"
import { EventPublisher } from "./EventPublisher.js"

type Decision =
  | { readonly _tag: "Sent" | "Unsent" | "Undecided" }
  | { readonly _tag: "Refused"; readonly reason: string }

type Messages = ReadonlyArray<EventRecord.EventRecord>
type Decided = readonly [Messages, Decision]

/** A publisher with an idempotent producer of its own. */
const open = Effect.fnUntraced(function*(options: KafkaOptions, spreads: Spreads) {
  const producer = yield* KafkaProducerSlot.make(options)
  const written: KafkaProducer.WrittenRecords = new WeakSet()
  const record = (event: OutboxEvent) => EventRecord.make(event, spreads.of(event))

  /** Sends one group of records until the broker has decided on it, or `mayStart` ends it. */
  const decide = (
    messages: Messages,
    mayStart: () => boolean,
    outages: Outages
  ): Effect.Effect<Decision> => {
    const { topic } = messages[0]!
    const waitFor = (error: KafkaUnavailable) =>
      Effect.zipRight(Effect.sync(() => outages.waits(error.message)), Effect.sleep("250 millis"))
    // after an attempt without an answer, only the same records through the same producer are safe
    let attempted = false
    const send: Effect.Effect<Decision> = Effect.suspend(() =>
      mayStart()
        ? Effect.flatMap(producer.get, ({ send }) =>
          Effect.tapError(send(messages, mayStart, written), (error) =>
            Effect.sync(() => {
              attempted ||= error._tag !== "SendStopped" || error.attempted
            })))
        : Effect.fail(new KafkaProducer.SendStopped({ attempted: false }))
    ).pipe(
      Effect.map((): Decision => {
        outages.reached(topic)
        return { _tag: "Sent" }
      }),
      Effect.catchTags({
        RecordsRefused: ({ reason }) => Effect.succeed<Decision>({ _tag: "Refused", reason }),
        TopicMissing: (error) =>
          Effect.sync((): Decision => {
            outages.missing(topic, error.message)
            return { _tag: "Unsent" }
          }),
        SendStopped: () => Effect.as(producer.close, { _tag: attempted ? "Undecided" : "Unsent" } as Decision),
        ProducerLost: () => Effect.zipRight(producer.close, send),
        KafkaUnavailable: (error) => Effect.zipRight(waitFor(error), send)
      })
    )
    return send
  }

  /**
   * A refusal concerns one partition of several, and the others may have taken theirs. So the partitions are sent
   * again one by one (the broker knows those that it has), then the events of the one that refuses.
   */
  const isolate = Effect.fnUntraced(function*(messages: Messages, mayStart: () => boolean, outages: Outages) {
    const { byPartition } = yield* Effect.orDie(producer.get)
    const decided: Array<Decided> = []
    for (const group of byPartition(messages) as ReadonlyArray<Messages>) {
      const decision = yield* decide(group, mayStart, outages)
      if (decision._tag !== "Refused" || group.length === 1) decided.push([group, decision])
      else for (const message of group) decided.push([[message], yield* decide([message], mayStart, outages)])
    }
    return decided
  })

  const publishTopic = Effect.fnUntraced(function*(messages: Messages, mayStart: () => boolean, outages: Outages) {
    const decision = yield* decide(messages, mayStart, outages)
    return decision._tag === "Refused" && messages.length > 1
      ? yield* isolate(messages, mayStart, outages)
      : [[messages, decision] as const]
  })

  const publish = Effect.fnUntraced(
    function*(events: ReadonlyArray<OutboxEvent>, mayStart: () => boolean, outages: Outages) {
      const byTopic = Object.values(Arr.groupBy(events.map(record), (message) => message.topic))
      const decided = (yield* Effect.forEach(byTopic, (messages) => publishTopic(messages, mayStart, outages))).flat()
      const those = (tag: Decision["_tag"]) =>
        decided.flatMap(([messages, { _tag }]) => _tag === tag ? messages.map(({ event }) => event) : [])
      return {
        sent: those("Sent"),
        unsent: those("Unsent"),
        undecided: those("Undecided"),
        refused: decided.flatMap(([messages, decision]) =>
          decision._tag === "Refused" ? messages.map(({ event }) => ({ event, reason: decision.reason })) : []
        )
      } satisfies Published
    },
    Trace.span("EventPublisher.publish")
  )

  return { publish } satisfies Publisher
})

/** Publishes with idempotent producers: at least once, and once as long as nobody dies. */
export const layer = (options: KafkaOptions) =>
  Layer.effect(EventPublisher, Effect.map(Spreads, (spreads) => ({ open: open(options, spreads) })))
