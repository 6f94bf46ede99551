import { Effect, Either } from "effect"
import type { PartitionerArgs } from "kafkajs"
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

/** A partition has no leader: an attempt found that out before it sent anything, and new metadata has not helped. */
export class Leaderless extends Error {
  readonly retriable = false
  constructor(
    readonly topic: string,
    readonly partition: number,
    /** Its last leader may have written the records: an earlier attempt had no answer. */
    readonly attempted = false
  ) {
    super(`partition ${partition} of topic ${topic} has no leader`)
  }
}

/** An error after which kafkajs does not begin again. */
const final = (message: string) => Object.assign(new Error(message), { retriable: false })

const namesOf = ({ topicData }: ProduceRequest) =>
  topicData.flatMap(({ partitions, topic }) => partitions.map(({ partition }) => `${topic}/${partition}`))

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
 *
 * A request of an earlier round may wait while kafkajs begins again, e.g. until its partitions belong to the transaction. It
 * leaves later, beside the request of the new round for the same records. So a partition is sent once in an attempt, and
 * nothing leaves after `result` was asked for.
 */
export class Attempt {
  state: "waiting" | "stopped" | "sent" = "waiting"
  private readonly sent: Array<Sent> = []
  /** `topic/partition` of all requests that have left. */
  private readonly left = new Set<string>()
  private isOver = false
  private topic: string | undefined
  /** Partitions of `topic` that have got a record in this round. */
  private readonly partitions = new Set<number>()
  private rounds = 0
  /** Partitions of `topic` that have no leader in this round. */
  private readonly without = new Map<number, Leaderless>()
  /** Records whose partitions had no leader in any round. */
  private readonly leaderless = new Map<object, Leaderless>()

  /** @param first the record that kafkajs gets first @param mayStart asked right before the first request */
  constructor(private readonly first: OutgoingRecord, private readonly mayStart: () => boolean) {}

  /**
   * The partitioner of kafkajs: the partition of each record is that of `choose`. The first record is the beginning of a
   * round. The first record of a partition may be the first of a request, and identifies the request.
   */
  partitionOf(args: PartitionerArgs, choose: (args: PartitionerArgs) => number) {
    if (args.message === this.first as unknown) this.beginRound()
    if (args.topic !== this.topic) {
      this.topic = args.topic
      this.partitions.clear()
      this.without.clear()
    }
    const partition = choose(args)
    if (!this.partitions.has(partition)) {
      this.partitions.add(partition)
      guard(args.message, this.send)
      const leader = args.partitionMetadata.find(({ partitionId }) => partitionId === partition)?.leader ?? 0
      if (leader < 0) this.without.set(partition, new Leaderless(args.topic, partition))
    }
    if (this.without.size > 0) this.note(args.message, partition)
    return partition
  }

  /**
   * The result, after the call of kafkajs has ended. Waits for all brokers that have got a request: kafkajs fails with the first
   * broker that fails.
   */
  readonly result: Effect.Effect<Result> = Effect.gen(this, function*() {
    this.isOver = true
    const written: Array<Share> = []
    let failure: KafkaUnavailable | undefined
    for (const { answer, request } of this.sent) {
      const answered = yield* Effect.either(attempt(() => answer))
      if (Either.isRight(answered)) written.push(...sharesOf(request, answered.right))
      else failure ??= answered.left
    }
    return { written, failure }
  })

  /** After a failure without a request: the records whose partitions have no leader, with the error. The others may be sent. */
  get unled(): ReadonlyMap<object, Leaderless> {
    return this.state === "waiting" ? this.leaderless : new Map()
  }

  /** The records of all requests that have left. */
  get departed(): ReadonlyArray<object> {
    return this.sent.flatMap(({ request }) =>
      request.topicData.flatMap(({ partitions }) =>
        partitions.flatMap(({ messages }) => messages as ReadonlyArray<object>)
      )
    )
  }

  private readonly send: Gate = (request, send) => {
    this.ask()
    const partitions = namesOf(request)
    if (this.isOver || partitions.some((name) => this.left.has(name))) throw final("these records have left already")
    for (const name of partitions) this.left.add(name)
    this.state = "sent"
    const answer = send()
    this.sent.push({ request, answer })
    return answer
  }

  private note(record: object, partition: number) {
    const error = this.without.get(partition)
    if (error === undefined) return
    this.leaderless.set(record, error)
    // kafkajs has asked for new metadata before the second round
    if (this.rounds > 1) throw error
  }

  private beginRound() {
    if (this.state === "sent") throw final("a broker did not write its records")
    this.ask()
    this.rounds++
    this.topic = undefined
  }

  private ask() {
    if (this.state === "waiting" && !this.mayStart()) this.state = "stopped"
    if (this.state === "stopped") throw final("sending was stopped")
  }
}
