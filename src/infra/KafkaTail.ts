import { Duration, Effect, Mailbox } from "effect"
import { randomUUID } from "node:crypto"
import type { KafkaOptions } from "./Kafka.js"
import { attempt, finish, withAdmin } from "./Kafka.js"
import type { IncomingRecord } from "./KafkaConsumer.js"
import * as KafkaConsumer from "./KafkaConsumer.js"

/** A record of the topic that is followed, and where it stands. */
export interface TailRecord extends IncomingRecord {
  readonly partition: number
}

export interface TailOptions extends KafkaOptions {
  readonly topic: string
  /** The first record followed: the first that is there, or the first that comes after now. */
  readonly from: "beginning" | "end"
}

/** What comes to the topic from now on is followed, however long joining the group takes. */
const startAtEnd = (options: TailOptions, groupId: string) =>
  withAdmin(
    options,
    (admin) =>
      Effect.flatMap(attempt(() => admin.fetchTopicOffsets(options.topic)), (partitions) =>
        attempt(() =>
          admin.setOffsets({
            groupId,
            topic: options.topic,
            partitions: partitions.map(({ high, partition }) => ({ partition, offset: high }))
          })
        ))
  )

/**
 * Follows a topic as a group of its own, which goes with the scope. The position is fixed when this returns.
 * The mailbox fails when the consumer does.
 */
export const open = Effect.fn("KafkaTail.open")(function*(options: TailOptions) {
  const groupId = `payments-tail-${randomUUID()}`
  const records = yield* Mailbox.make<TailRecord, Effect.Effect.Error<ReturnType<typeof KafkaConsumer.consume>>>()
  yield* Effect.addFinalizer(() =>
    Effect.ignore(withAdmin(options, (admin) => finish(() => admin.deleteGroups([groupId]), "2 seconds")))
  )
  if (options.from === "end") yield* startAtEnd(options, groupId)
  yield* KafkaConsumer.consume(
    { ...options, groupId, sessionTimeout: Duration.seconds(15), concurrency: 1, drainTimeout: "2 seconds" },
    ({ partition, records: batch, resolve }) =>
      Effect.gen(function*() {
        yield* records.offerAll(batch.map((record) => ({ ...record, partition })))
        resolve(batch.at(-1)!.offset)
      })
  ).pipe(
    Effect.onError((cause) => records.failCause(cause)),
    Effect.forkScoped
  )
  return records
})
