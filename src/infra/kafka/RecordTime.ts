import { Effect } from "effect"

/**
 * The time that records are written with, for all producers of this process.
 *
 * A broker refuses a record whose time is too far from its own clock (`message.timestamp.after.max.ms`, one hour by
 * default), and deletes records by their time. The clock of this host may be wrong and may jump, so the time is the
 * database's, carried on by the monotonic clock of the process. Until `follow` was called it is the time of the host.
 */
let epoch: number | undefined

/** The database said `millis` when `performance.now()` was `at`. */
export const follow = (millis: number, at: number) => {
  epoch = millis - at
}

const host = () => new Date().getTime()

/** Milliseconds of the epoch. */
export const now = () => epoch === undefined ? host() : epoch + performance.now()

/** Milliseconds for which a topic gets records without a time after it refused one. Then a time is tried again. */
const pause = 60_000

/** By topic: until when its records are written without a time, on the monotonic clock. */
const refusing = new Map<string, number>()

/** What a record without a time carries. A broker takes it, and deletes such records by the age of their file. */
const none = -1n

/** The time for records of this topic. */
export const of = (topic: string) =>
  refusing.size > 0 && (refusing.get(topic) ?? 0) > performance.now() ? none : BigInt(Math.floor(now()))

/** A broker refused the time of a record of this topic: records go without one for a while. The first refusal is logged. */
export const refused = (topic: string) =>
  Effect.suspend(() => {
    const told = refusing.has(topic)
    refusing.set(topic, performance.now() + pause)
    return told ? Effect.void : Effect.logWarning(
      "a broker refuses the time of our records (INVALID_TIMESTAMP), so they are written without a time: compare the " +
        "clocks of the database and the brokers, and the topic's message.timestamp.before.max.ms and after.max.ms"
    ).pipe(Effect.annotateLogs({ topic, time: new Date(now()).toISOString() }))
  })

/** Records of this topic were written. */
export const accepted = (topic: string) => {
  const until = refusing.get(topic)
  // what was under way when the pause ended may still have been without a time
  if (until === undefined || performance.now() < until + pause / 2) return Effect.void
  refusing.delete(topic)
  return Effect.logInfo("a broker takes the time of our records again").pipe(Effect.annotateLogs({ topic }))
}
