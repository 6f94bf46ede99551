import { Clock, Duration, Effect, Mailbox } from "effect"
import { randomUUID } from "node:crypto"
import type { KafkaOptions } from "./KafkaClient.js"
import { attempt, finish, withAdmin } from "./KafkaClient.js"

import * as KafkaConsumer from "./KafkaConsumer.js"
import * as KafkaGroupOffsets from "./KafkaGroupOffsets.js"
import type { IncomingRecord } from "./KafkaRecord.js"

/** A record of the topic that is followed, and where it stands. */
export interface TailRecord extends IncomingRecord {
  readonly partition: number
}

/** So many records wait to be taken; then nothing more is read. */
const capacity = 1_000

export interface TailOptions extends KafkaOptions {
  readonly topic: string
  /** The first record followed: the first that is there, or the first that comes after now. */
  readonly from: "beginning" | "end"
}

/** Groups of tails have the moment of their making (milliseconds of the epoch) in their names. */
const groupName = /^payments-tail-(\d{13})-/

/** A group as old as this whose tail is gone was left by a process that was killed: nobody comes back to it. */
const abandoned = Duration.toMillis("1 hour")

/**
 * Deletes the group, and those that processes which were killed have left: the broker would keep their offsets for a week.
 * It refuses to delete a group that still has a member.
 */
const deleteGroups = (options: TailOptions, groupId: string) =>
  Effect.flatMap(Clock.currentTimeMillis, (now) =>
    withAdmin(options, (admin) =>
      Effect.zipRight(
        finish(() => admin.deleteGroups([groupId]), "2 seconds"),
        finish(() =>
          admin.listGroups().then(({ groups }) => {
            const left = groups.map((_) => _.groupId).filter((id) => Number(groupName.exec(id)?.[1]) < now - abandoned)
            return left.length === 0 ? undefined : admin.deleteGroups(left)
          }), "2 seconds")
      )))

/** What comes to the topic from now on is followed, however long joining the group takes. */
const startAtEnd = Effect.fnUntraced(function*(options: TailOptions, groupId: string) {
  const partitions = yield* withAdmin(options, (admin) => attempt(() => admin.fetchTopicOffsets(options.topic)))
  const ends = partitions.map(({ high, partition }) => ({ partition, offset: high }))
  yield* KafkaGroupOffsets.set(options, groupId, options.topic, ends)
})

/**
 * Follows a topic as a group of its own, which goes with the scope. The position is fixed when this returns. Whoever takes
 * the records slowly has them read slowly: at most the records of two fetches are held.
 * The mailbox fails when the consumer does.
 */
export const open = Effect.fn("KafkaTail.open")(function*(options: TailOptions) {
  const groupId = `payments-tail-${yield* Clock.currentTimeMillis}-${randomUUID()}`
  const records = yield* Mailbox.make<TailRecord, Effect.Effect.Error<ReturnType<typeof KafkaConsumer.consume>>>({
    capacity,
    strategy: "suspend"
  })
  yield* Effect.addFinalizer(() => Effect.ignore(deleteGroups(options, groupId)))
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
