import { Effect, Either } from "effect"
import type { KafkaUnavailable } from "./KafkaClient.js"
import { attempt } from "./KafkaClient.js"
import type { OutgoingRecord } from "./KafkaRecord.js"
import type { Gate, ProduceRequest, Written } from "./patches/ProduceRequests.js"
import { guard } from "./patches/ProduceRequests.js"

/** The part of an attempt that one partition has written. */
export interface Share {
  readonly partition: number
  /** Offset of its first record; empty when the broker does not say it. */
  readonly offset: string
  readonly records: ReadonlyArray<OutgoingRecord>
}

/** The result of an attempt after all brokers have answered. */
export interface Result {
  readonly written: ReadonlyArray<Share>
  /** The first failure of a broker. None of the partitions of that request has written its records. */
  readonly failure: KafkaUnavailable | undefined
}

interface Sent {
  readonly request: ProduceRequest
  readonly answer: Promise<Written>
}

/** An error after which kafkajs does not begin again. */
const final = (message: string) => Object.assign(new Error(message), { retriable: false })

const sharesOf = ({ topicData }: ProduceRequest, { topics }: Written): ReadonlyArray<Share> =>
  topicData.flatMap(({ partitions, topic }) => {
    const answers = topics.find(({ topicName }) => topicName === topic)?.partitions
    return partitions.map(({ messages, partition }): Share => ({
      partition,
      offset: answers?.find((_) => _.partition === partition)?.baseOffset ?? "",
      records: messages as ReadonlyArray<OutgoingRecord>
    }))
  })

/**
 * One attempt to write records. It is one call of kafkajs, which sends one request to each broker that leads some of the
 * partitions.
 *
 * - `waiting`: no request has left. kafkajs chooses the partitions and finds the brokers, and begins again after a failure.
 * - `stopped`: `mayStart` said no before the first request. No request leaves.
 * - `sent`: a request has left. kafkajs must not begin again: it would ask brokers that still owe an answer, and those that
 *   lead a partition only now, under new sequence numbers. They would write the records twice.
 */
export class Attempt {
  state: "waiting" | "stopped" | "sent" = "waiting"
  private readonly sent: Array<Sent> = []

  /** @param records in the order in which kafkajs gets them @param mayStart asked right before the first request */
  constructor(private readonly records: ReadonlyArray<OutgoingRecord>, private readonly mayStart: () => boolean) {
    guard(records, this.send)
  }

  /** The partitioner of kafkajs calls this for each record. The first record is the beginning of a round. */
  choosePartitionOf(record: unknown) {
    if (record !== this.records[0]) return
    if (this.state === "sent") throw final("a broker did not write its records")
    this.ask()
  }

  /** Waits for all brokers that have got a request: kafkajs fails with the first broker that fails. */
  readonly result: Effect.Effect<Result> = Effect.gen(this, function*() {
    const written: Array<Share> = []
    let failure: KafkaUnavailable | undefined
    for (const { answer, request } of this.sent) {
      const answered = yield* Effect.either(attempt(() => answer))
      if (Either.isRight(answered)) written.push(...sharesOf(request, answered.right))
      else failure ??= answered.left
    }
    return { written, failure }
  })

  private readonly send: Gate = (request, send) => {
    this.ask()
    this.state = "sent"
    const answer = send()
    this.sent.push({ request, answer })
    return answer
  }

  private ask() {
    if (this.state === "waiting" && !this.mayStart()) this.state = "stopped"
    if (this.state === "stopped") throw final("sending was stopped")
  }
}
