import { Effect } from "effect"

/**
 * The time of the records that this process writes.
 *
 * A broker refuses a record whose time is too far from its own clock (`message.timestamp.after.max.ms`, one hour by
 * default), and deletes records by their time. The clock of this host may be wrong and may jump. So the time comes from the
 * database, and the monotonic clock of the process continues it. Before the first call of `follow` it is the time of the host.
 */
let epoch: number | undefined

/** Sets the time: it was `millis` in the database when `performance.now()` was `at`. */
export const follow = (millis: number, at: number) => {
  epoch = millis - at
}

const host = () => new Date().getTime()

/** Milliseconds of the epoch. */
export const now = () => epoch === undefined ? host() : epoch + performance.now()

/** Milliseconds without times for a topic that has refused one. Then its records have times again. */
const pause = 60_000

/** By topic: the end of the time without times, on the monotonic clock. */
const refusing = new Map<string, number>()

/** The value for a record without a time. A broker accepts it, and deletes such records by the age of their file. */
const none = -1n

/** The time for a record of this topic now. */
export const of = (topic: string) =>
  refusing.size > 0 && (refusing.get(topic) ?? 0) > performance.now() ? none : BigInt(Math.floor(now()))

/** A broker has refused the time of a record of this topic. Its records have no time for a while. Logs the first refusal. */
export const refused = (topic: string) =>
  Effect.suspend(() => {
    const logged = refusing.has(topic)
    refusing.set(topic, performance.now() + pause)
    return logged ? Effect.void : Effect.logWarning(
      "a broker refuses the time of our records (INVALID_TIMESTAMP), so they have no time now: compare the " +
        "clocks of the database and the brokers, and the topic's message.timestamp.before.max.ms and after.max.ms"
    ).pipe(Effect.annotateLogs({ topic, time: new Date(now()).toISOString() }))
  })

/** A broker has written records of this topic. */
export const accepted = (topic: string) => {
  const until = refusing.get(topic)
  // a request from before the end of the pause may have been without a time
  if (until === undefined || performance.now() < until + pause / 2) return Effect.void
  refusing.delete(topic)
  return Effect.logInfo("a broker accepts the time of our records again").pipe(Effect.annotateLogs({ topic }))
}
