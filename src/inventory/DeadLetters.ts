import { Effect, Metric, Schema } from "effect"
import type { KafkaOptions } from "../infra/kafka/KafkaClient.js"
import { reason } from "../infra/kafka/KafkaClient.js"
import type { OutgoingRecord, SendError, WrittenRecords } from "../infra/kafka/KafkaProducer.js"
import * as KafkaProducerSlot from "../infra/kafka/KafkaProducerSlot.js"
import type { DeadLetter, Draft } from "./DeadLetter.js"
import * as Letter from "./DeadLetter.js"

/** The dead-letter topic takes no letter now: a broker is away, or its settings or rights do not let us write. */
export class DeadLettersRefused extends Schema.TaggedError<DeadLettersRefused>()("DeadLettersRefused", {
  topic: Schema.String,
  /** The broker's own word. */
  reason: Schema.String
}) {
  override get message() {
    return `dead letters cannot be written to topic ${this.topic}: ${this.reason}`
  }
}

const sent = Metric.counter("payments_dead_letters_total", {
  description: "Inventory records sent to the dead-letter topic",
  incremental: true
})
const shortened = Metric.counter("payments_dead_letters_cut_total", {
  description: "Dead letters of which the topic did not take the whole record",
  incremental: true
})

/** What a request carries at the most, in bytes of whole records: a broker takes 1 MiB for each partition by default. */
const requestBytes = 512 * 1024

interface Request {
  readonly drafts: ReadonlyArray<Draft>
  /** A partition takes all of a request or nothing. */
  readonly onePartition: boolean
}

const ofOnePartition = (drafts: ReadonlyArray<Draft>): Request => ({ drafts, onePartition: true })

/** Cuts letters into requests. One that is larger goes alone. */
const inRequests = (drafts: ReadonlyArray<Draft>): ReadonlyArray<Request> => {
  const requests: Array<Array<Draft>> = []
  let bytes = Infinity
  for (const draft of drafts) {
    if (bytes + draft.bytes > requestBytes) {
      requests.push([])
      bytes = 0
    }
    requests.at(-1)!.push(draft)
    bytes += draft.bytes
  }
  return requests.map((drafts) => ({ drafts, onePartition: drafts.length === 1 }))
}

/** Refusals for what one record is. The others concern all of them, and are waited for. */
const ofRecord = new Set([
  "MESSAGE_TOO_LARGE",
  "RECORD_LIST_TOO_LARGE",
  "INVALID_RECORD",
  // what brokers before 2.4 say of a record without a key on a compacted topic
  "CORRUPT_MESSAGE",
  "POLICY_VIOLATION",
  "UNSUPPORTED_FOR_MESSAGE_FORMAT"
])
const wantsKey = new Set(["INVALID_RECORD", "CORRUPT_MESSAGE"])

const reasonOf = (error: SendError) => {
  switch (error._tag) {
    case "KafkaUnavailable":
      return reason(error.cause)
    case "TopicMissing":
      return error.message
    case "SendStopped":
      return "sending was stopped"
    default:
      return error.reason
  }
}

/**
 * Writes the letters of a batch to the dead-letter topic. `send` may be called again after a failure, and goes on with
 * those that are not written yet.
 *
 * A letter goes as it came, with headers that say why and from where. Where the topic refuses some, they are halved until
 * the one at fault is alone; that one gets a key where one is demanded, then less and less of its record is sent, with
 * headers that say what was cut, its size and its hash. So a record never holds up its partition. What concerns all
 * records (no right to write, no such topic, no broker) fails with `DeadLettersRefused`.
 *
 * Letters are so rare that a producer is made for the batch that has some, and none idles for the others.
 */
export const make = Effect.fnUntraced(
  function*(
    kafka: KafkaOptions,
    dlqTopic: string,
    letters: ReadonlyArray<DeadLetter>,
    mayContinue: () => boolean
  ) {
    const producer = yield* KafkaProducerSlot.make(kafka)
    const written: WrittenRecords = new WeakSet()
    let open = inRequests(letters.map((letter) => Letter.make(letter, dlqTopic)))

    const refuse = (reason: string) => new DeadLettersRefused({ topic: dlqTopic, reason })

    /** Answers why the topic refuses some of the records; undefined when it has taken all. */
    const write = ({ drafts }: Request) =>
      producer.get.pipe(
        Effect.flatMap(({ send }) => send(drafts.map((_) => _.record), mayContinue, written)),
        Effect.as(undefined),
        Effect.catchAll((error) => {
          const why = reasonOf(error)
          const refused = error._tag === "RecordsRefused"
          if (ofRecord.has(why)) return Effect.as(refused ? Effect.void : producer.close, why)
          // after a failure nobody knows what was written: this producer may only send the same again
          const keeps = refused || error._tag === "KafkaUnavailable"
          return Effect.zipRight(keeps ? Effect.void : producer.close, refuse(why))
        })
      )

    /**
     * What to send instead of a request that was refused. Other partitions than the one that refuses may have taken theirs:
     * they know it when exactly that is sent again.
     */
    const instead = Effect.fnUntraced(function*({ drafts, onePartition }: Request, why: string) {
      if (!onePartition) {
        const { byPartition } = yield* producer.get
        const draftOf = new Map<OutgoingRecord, Draft>(drafts.map((draft) => [draft.record, draft]))
        return byPartition(drafts.map((_) => _.record)).map((records) =>
          ofOnePartition(records.map((record) => draftOf.get(record)!))
        )
      }
      if (wantsKey.has(why) && drafts.some((_) => _.record.key === null)) {
        // with a key each has a partition of its own choice
        return [{
          drafts: drafts.map((draft) => Letter.withKey(draft, why) ?? draft),
          onePartition: drafts.length === 1
        }]
      }
      if (drafts.length > 1) {
        const half = Math.ceil(drafts.length / 2)
        return [drafts.slice(0, half), drafts.slice(half)].map(ofOnePartition)
      }
      const next = Letter.shorter(drafts[0]!, why)
      return next === undefined ? undefined : [ofOnePartition([next])]
    })

    const count = (written: ReadonlyArray<Draft>) => {
      sent.unsafeUpdate(written.length, [])
      const cut = written.filter(({ record }) => "dlq-cut" in (record.headers ?? {})).length
      if (cut > 0) shortened.unsafeUpdate(cut, [])
    }

    const send = Effect.gen(function*() {
      while (open.length > 0) {
        const [request, ...later] = open
        const why = yield* write(request!)
        if (why === undefined) {
          count(request!.drafts)
          open = later
          continue
        }
        const next = yield* Effect.mapError(instead(request!, why), (error) => refuse(reasonOf(error)))
        if (next === undefined) {
          // the topic may be mended meanwhile: then it gets the whole letter
          open = [ofOnePartition([Letter.make(request!.drafts[0]!.letter, dlqTopic)]), ...later]
          return yield* refuse(`${why}, also for the shortest form of a letter`)
        }
        open = [...next, ...later]
      }
    })

    return { send } as const
  }
)
