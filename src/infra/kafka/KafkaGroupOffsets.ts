import { Deferred, Effect } from "effect"
import type { KafkaOptions } from "./KafkaClient.js"
import { attempt, client, close, connecting, KafkaUnavailable } from "./KafkaClient.js"
import { untilSettled } from "./KafkaOffsets.js"

/** The names of all groups that read for a person or for a check begin with this. An ACL grants them by it. */
export const readers = "payments-reader-"

/** The offset that a group reads next. */
export interface Position {
  readonly partition: number
  readonly offset: string
}

/**
 * Sets the positions of a group without members. The same call of kafkajs waits for a record of the topic for up to five
 * seconds.
 */
export const set = (options: KafkaOptions, groupId: string, topic: string, positions: ReadonlyArray<Position>) =>
  Effect.gen(function*() {
    const joined = yield* Deferred.make<void, KafkaUnavailable>()
    const kafka = client(options)
    const consumer = yield* Effect.acquireRelease(
      Effect.sync(() =>
        kafka.consumer({
          groupId,
          allowAutoTopicCreation: false,
          // the consumer reads nothing, and its end waits for the open fetch
          maxWaitTimeInMs: 10,
          retry: { retries: 3, restartOnFailure: () => Promise.resolve(false) }
        })
      ),
      (consumer) => close(kafka, consumer, "5 seconds")
    )
    consumer.on(consumer.events.GROUP_JOIN, () => {
      consumer.pause([{ topic }])
      Deferred.unsafeDone(joined, Effect.void)
    })
    consumer.on(
      consumer.events.CRASH,
      ({ payload }) => Deferred.unsafeDone(joined, Effect.fail(new KafkaUnavailable({ cause: payload.error })))
    )
    yield* connecting(kafka, () => consumer.connect())
    yield* attempt(() => consumer.subscribe({ topics: [topic] }))
    yield* attempt(() => consumer.run({ autoCommit: false, eachBatch: () => Promise.resolve() }))
    yield* Deferred.await(joined)
    yield* attempt(() => consumer.commitOffsets(positions.map((position) => ({ topic, ...position }))))
  }).pipe(Effect.scoped, untilSettled)
