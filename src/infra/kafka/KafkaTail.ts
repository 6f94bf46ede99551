import { Clock, Duration, Effect, Mailbox } from "effect"
import { randomUUID } from "node:crypto"
import type { KafkaOptions, KafkaUnavailable } from "./KafkaClient.js"
import { attempt, finish, withAdmin } from "./KafkaClient.js"
import * as KafkaConsumer from "./KafkaConsumer.js"
import type { ConsumerCrashed } from "./KafkaGroup.js"
import * as KafkaGroupOffsets from "./KafkaGroupOffsets.js"
import { readers } from "./KafkaGroupOffsets.js"
import { untilSettled } from "./KafkaOffsets.js"
import type { IncomingRecord } from "./KafkaRecord.js"

/** A record of the topic, with its partition. */
export interface TailRecord extends IncomingRecord {
  readonly partition: number
}

/** The most records that wait in the mailbox. */
const capacity = 1_000

export interface TailOptions extends KafkaOptions {
  readonly topic: string
  /** Begins at the first record of the topic, or at the first record after now. */
  readonly from: "beginning" | "end"
}

/** The name of a tail's group has the time of its creation, in milliseconds of the epoch. */
const groupName = new RegExp(`^${readers}tail-(\\d{13})-`)

/** Age at which a group without a member is the rest of a process that was killed. */
const abandoned = Duration.toMillis("1 hour")

/**
 * Deletes the group of this tail, and old groups of processes that were killed: the broker would keep their offsets for a
 * week. The broker refuses to delete a group that has a member.
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

/** Sets the positions to the ends of the partitions now, because joining the group takes time. */
const startAtEnd = Effect.fnUntraced(function*(options: TailOptions, groupId: string) {
  const partitions = yield* untilSettled(
    withAdmin(options, (admin) => attempt(() => admin.fetchTopicOffsets(options.topic)))
  )
  const ends = partitions.map(({ high, partition }) => ({ partition, offset: high }))
  yield* KafkaGroupOffsets.set(options, groupId, options.topic, ends)
})

/**
 * Follows a topic with a group of its own, which is deleted when the scope ends. The positions are set when this returns. The
 * consumer reads only as fast as the records are taken: it holds at most the records of two fetches. The mailbox fails when
 * the consumer fails.
 */
export const open = Effect.fn("KafkaTail.open")(function*(options: TailOptions) {
  const groupId = `${readers}tail-${yield* Clock.currentTimeMillis}-${randomUUID()}`
  const records = yield* Mailbox.make<TailRecord, KafkaUnavailable | ConsumerCrashed>({
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
