import { Array as Arr, Clock, Effect, Layer } from "effect"
import { Leaderless } from "../../infra/kafka/KafkaAttempt.js"
import type { KafkaOptions, KafkaUnavailable } from "../../infra/kafka/KafkaClient.js"
import * as KafkaProducer from "../../infra/kafka/KafkaProducer.js"
import * as KafkaProducerSlot from "../../infra/kafka/KafkaProducerSlot.js"
import * as KafkaSpan from "../../infra/kafka/KafkaSpan.js"
import { problemOf } from "../../infra/runtime/Problem.js"
import * as Trace from "../../infra/runtime/Trace.js"
import { BrokerContact } from "../BrokerContact.js"
import * as EventRecord from "../EventRecord.js"
import type { OutboxEvent } from "../OutboxEvent.js"
import { Spreads } from "../Spreads.js"
import type { Outages, Published, Publisher } from "./EventPublisher.js"
import { EventPublisher } from "./EventPublisher.js"

/** Answer of the broker for a group of records. */
type Answer =
  | { readonly _tag: "Sent" }
  /** `rest`: of the records that are not written. The others are sent. */
  | { readonly _tag: "Unsent" | "Undecided"; readonly rest?: true }
  | { readonly _tag: "Refused"; readonly reason: string }

/** How to send the records of one call. */
interface Sending {
  readonly mayStart: () => boolean
  readonly outages: Outages
  /** With a collector: the places of the records for its spans. */
  readonly places: ReturnType<typeof KafkaSpan.places> | undefined
}

type Messages = ReadonlyArray<EventRecord.EventRecord>
type Answered = readonly [Messages, Answer]

/**
 * Nanoseconds that records wait for the leader of a partition whose last leader may have written them: the same producer does not
 * double them.
 */
const leaderPatience = 10_000_000_000n

/** A publisher with an idempotent producer of its own. */
const open = Effect.fnUntraced(function*(options: KafkaOptions, spreads: Spreads, contact: BrokerContact) {
  const producer = yield* KafkaProducerSlot.make(options)
  const written: KafkaProducer.WrittenRecords = new WeakSet()
  const record = (event: OutboxEvent) => EventRecord.make(event, spreads.of(event))

  /**
   * Sends one group of records until the broker takes or refuses it, or `mayStart` ends it. Does not wait long for the leader of
   * a partition: the events of the others would wait for their mark.
   */
  const sendGroup = (messages: Messages, { mayStart, outages, places }: Sending): Effect.Effect<Answer> => {
    const { topic } = messages[0]!
    const waitFor = (error: KafkaUnavailable) =>
      Effect.zipRight(
        Effect.sync(() => {
          const { reason, why } = problemOf(error, "kafka")
          outages.waits({ reason, why: reason === "permission" ? `${why} (topic ${topic})` : why })
        }),
        Effect.sleep("250 millis")
      )
    // after an attempt without an answer, only the same records through the same producer are safe
    let attempted = false
    /** A producer that may have sent them is gone. */
    let lost = false
    let leaderlessSince: bigint | undefined
    const unled = (error: KafkaUnavailable, { attempted: asked, partition }: Leaderless) =>
      Effect.gen(function*() {
        const rest = true
        outages.missing(`${topic}/${partition}`, problemOf(error, "kafka"))
        if (!asked && !lost) return { _tag: "Unsent", rest } satisfies Answer
        const now = yield* Clock.currentTimeNanos
        leaderlessSince ??= now
        if (now - leaderlessSince < leaderPatience) return yield* Effect.zipRight(waitFor(error), send)
        return yield* Effect.as(producer.close, { _tag: "Undecided", rest } satisfies Answer)
      })
    const send: Effect.Effect<Answer> = Effect.suspend(() =>
      mayStart()
        ? Effect.flatMap(producer.get, ({ send }) =>
          Effect.tapError(send(messages, mayStart, written, places?.add), (error) =>
            Effect.sync(() => {
              attempted ||= error._tag !== "SendStopped" || error.attempted
              lost ||= error._tag === "ProducerLost"
            })))
        : Effect.fail(new KafkaProducer.SendStopped({ attempted: false }))
    ).pipe(
      Effect.map((): Answer => {
        contact.answered()
        outages.reached(topic)
        return { _tag: "Sent" }
      }),
      Effect.catchTags({
        RecordsRefused: ({ reason }) => Effect.succeed<Answer>({ _tag: "Refused", reason }),
        TopicMissing: (error) =>
          Effect.sync((): Answer => {
            outages.missing(topic, problemOf(error, "topic"))
            return { _tag: "Unsent" }
          }),
        SendStopped: () => Effect.as(producer.close, { _tag: attempted ? "Undecided" : "Unsent" } as Answer),
        ProducerLost: () => Effect.zipRight(producer.close, send),
        KafkaUnavailable: (error) =>
          error.cause instanceof Leaderless
            ? unled(error, error.cause)
            : Effect.zipRight(waitFor(error), send)
      })
    )
    return send
  }

  const answeredBy = (messages: Messages, answer: Answer): ReadonlyArray<Answered> =>
    "rest" in answer
      ? [
        [messages.filter((message) => written.has(message)), { _tag: "Sent" }],
        [messages.filter((message) => !written.has(message)), answer]
      ]
      : [[messages, answer]]

  /**
   * A refusal concerns one partition of several, and the others may have taken their records. So each partition is sent again
   * by itself (the broker drops what it has), then each event of the partition that refuses.
   */
  const isolate = Effect.fnUntraced(function*(messages: Messages, sending: Sending) {
    const { byPartition } = yield* Effect.orDie(producer.get)
    const answered: Array<Answered> = []
    for (const group of byPartition(messages) as ReadonlyArray<Messages>) {
      const answer = yield* sendGroup(group, sending)
      if (answer._tag !== "Refused" || group.length === 1) answered.push(...answeredBy(group, answer))
      else for (const message of group) answered.push([[message], yield* sendGroup([message], sending)])
    }
    return answered
  })

  const publishTopic = Effect.fnUntraced(function*(messages: Messages, sending: Sending) {
    const answer = yield* sendGroup(messages, sending)
    return answer._tag === "Refused" && messages.length > 1
      ? yield* isolate(messages, sending)
      : answeredBy(messages, answer)
  })

  const publish = Effect.fnUntraced(
    function*(events: ReadonlyArray<OutboxEvent>, mayStart: () => boolean, outages: Outages) {
      const places = (yield* Trace.recording) === undefined ? undefined : KafkaSpan.places()
      const byTopic = Object.values(Arr.groupBy(events.map(record), (message) => message.topic))
      const sending: Sending = { mayStart, outages, places }
      const answered = (yield* Effect.forEach(byTopic, (messages) => publishTopic(messages, sending))).flat()
      const those = (tag: Answer["_tag"]) =>
        answered.flatMap(([messages, { _tag }]) => _tag === tag ? messages.map(({ event }) => event) : [])
      return {
        sent: those("Sent"),
        unsent: those("Unsent"),
        undecided: those("Undecided"),
        refused: answered.flatMap(([messages, answer]) =>
          answer._tag === "Refused" ? messages.map(({ event }) => ({ event, reason: answer.reason })) : []
        ),
        ...(places === undefined ? {} : {
          places: new Map(answered.flatMap(([messages]) => messages.map((_) => [_.event, places.of(_)] as const)))
        })
      } satisfies Published
    },
    Trace.span("EventPublisher.publish")
  )

  return { publish } satisfies Publisher
})

/** Publishes with idempotent producers: at least once, and exactly once as long as no process or broker dies. */
export const layer = (options: KafkaOptions) =>
  Layer.effect(
    EventPublisher,
    Effect.map(
      Effect.all([Spreads, BrokerContact]),
      ([spreads, contact]) => ({ open: open(options, spreads, contact) })
    )
  )
