import { Effect, Metric, Schema } from "effect"
import type { KafkaOptions } from "../infra/kafka/KafkaClient.js"
import { reason } from "../infra/kafka/KafkaClient.js"
import type { OutgoingRecord, SendError, WrittenRecords } from "../infra/kafka/KafkaProducer.js"
import * as KafkaProducerSlot from "../infra/kafka/KafkaProducerSlot.js"
import type { Reason } from "../infra/runtime/Problem.js"
import type { DeadLetter, Draft } from "./DeadLetter.js"
import * as Letter from "./DeadLetter.js"

/** The dead-letter topic accepts no letter now: a broker is away, or its settings or permissions refuse the write. */
export class DeadLettersRefused extends Schema.TaggedError<DeadLettersRefused>()("DeadLettersRefused", {
  topic: Schema.String,
  /** The broker's error. */
  reason: Schema.String,
  /** No broker answers at all. */
  away: Schema.Boolean
}) {
  get waitsFor(): Reason {
    return this.away ? "kafka" : "dead_letter_topic"
  }

  override get message() {
    return `dead letters cannot be written to topic ${this.topic}: ${this.reason}`
  }
}

const sent = Metric.counter("payments_dead_letters_total", {
  description: "Inventory records sent to the dead-letter topic",
  incremental: true
})
const shortened = Metric.counter("payments_dead_letters_cut_total", {
  description: "Dead letters that were cut because the topic refused the whole record",
  incremental: true
})

/** The metrics of dead letters. */
export const metrics = [sent, shortened]

/** Limit of a request, in bytes of whole records. Brokers accept 1 MiB a partition by default (`message.max.bytes`). */
const requestBytes = 512 * 1024

interface Request {
  readonly drafts: ReadonlyArray<Draft>
  /** All drafts are for one partition, which accepts or refuses them together. */
  readonly onePartition: boolean
}

const ofOnePartition = (drafts: ReadonlyArray<Draft>): Request => ({ drafts, onePartition: true })

/** Groups letters into requests of at most `requestBytes`. A larger letter goes alone. */
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

/** Errors that concern a single record. All other errors concern the topic or the broker, and the consumer waits. */
const ofRecord = new Set([
  "MESSAGE_TOO_LARGE",
  "RECORD_LIST_TOO_LARGE",
  "INVALID_RECORD",
  // from brokers before 2.4: a record without a key on a compacted topic
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

/** No broker answers: an error without a type of the protocol. */
const isAway = (error: SendError) => error._tag === "KafkaUnavailable" && !/^[A-Z_]+$/.test(reason(error.cause))

/**
 * Returns `send`, which writes the letters of a batch to the dead-letter topic. After a failure `send` may be called again; it
 * goes on with the letters that are not written yet.
 *
 * A letter is the unchanged record, with headers for reason and position. When the topic refuses a request, the request is
 * halved until the refused letter is alone. That letter gets a key if the topic demands one, and is then cut step by step;
 * headers state what was cut, its size and its hash. So a record never holds up its partition. An error that concerns all
 * records (no permission, no such topic, no broker) fails with `DeadLettersRefused`.
 *
 * Dead letters are rare, so each batch that has some makes its own producer, and no producer idles in between.
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

    const refuse = (reason: string, away = false) => new DeadLettersRefused({ topic: dlqTopic, reason, away })

    /** Sends a request. Returns the broker's error when it refuses a record, undefined when it has accepted all. */
    const write = ({ drafts }: Request) =>
      producer.get.pipe(
        Effect.flatMap(({ send }) => send(drafts.map((_) => _.record), mayContinue, written)),
        Effect.as(undefined),
        Effect.catchAll((error) => {
          const why = reasonOf(error)
          const refused = error._tag === "RecordsRefused"
          if (ofRecord.has(why)) return Effect.as(refused ? Effect.void : producer.close, why)
          // after a failure the broker may have the records: the same producer must send the same records again
          const keeps = refused || error._tag === "KafkaUnavailable"
          return Effect.zipRight(keeps ? Effect.void : producer.close, refuse(why, isAway(error)))
        })
      )

    /**
     * The requests that replace a refused one; undefined when its only letter cannot be cut further. Some partitions may have
     * accepted their part of the request; they recognise it when exactly that part is sent again.
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
        // the keys spread them over several partitions
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
        const next = yield* Effect.mapError(
          instead(request!, why),
          (error) => refuse(reasonOf(error), isAway(error))
        )
        if (next === undefined) {
          // start again with the whole letter: someone may correct the topic meanwhile
          open = [ofOnePartition([Letter.make(request!.drafts[0]!.letter, dlqTopic)]), ...later]
          return yield* refuse(`${why}, also for the shortest form of a letter`)
        }
        open = [...next, ...later]
      }
    })

    return { send } as const
  }
)
