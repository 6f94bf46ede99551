import type { Redacted } from "effect"
import { Duration, Effect, Fiber, FiberSet, Metric } from "effect"
import { randomUUID } from "node:crypto"
import * as CrashPoint from "../../drills/CrashPoint.js"
import * as Notifications from "../../infra/postgres/PostgresNotifications.js"
import { beside } from "../../infra/runtime/Beside.js"
import * as Signal from "../../infra/runtime/Signal.js"
import * as Drain from "../Drain.js"
import * as OutboxWake from "../OutboxWake.js"
import * as Progress from "../Progress.js"
import type { OwnedShard } from "./ShardOwners.js"
import { ShardOwners } from "./ShardOwners.js"
import type { ShardOptions } from "./ShardTakeover.js"
import * as ShardWorker from "./ShardWorker.js"

const owned = Metric.gauge("payments_shards_owned", { description: "Shards of orders that this process relays" })
const stuck = Metric.gauge("payments_shards_unavailable", {
  description: "Shards of this process that cannot publish now: a server is away, or an operator has to decide"
})

export interface ShardRelayOptions extends ShardOptions {
  readonly pollInterval: Duration.DurationInput
  /** Where processes without a relay announce their commits. */
  readonly notifications: Redacted.Redacted
  /** How long a stop waits for the batches in hand. */
  readonly drainTimeout: Duration.DurationInput
  /** Told why a shard does not publish, and undefined when all do. */
  readonly report: (problem: string | undefined) => Effect.Effect<void>
}

/** How often relays look at each other: as long as a shard may wait for a relay that has come, or has left well. */
const roundInterval = Duration.seconds(1)

/** Shards for the relay that `before` others precede: as even as can be, and the same by everybody's reckoning. */
export const share = (shards: number, alive: number, before: number) =>
  Math.floor(shards / alive) + (before < shards % alive ? 1 : 0)

interface Held {
  readonly owned: OwnedShard
  readonly bell: Signal.Signal
  readonly rouse: Signal.Signal
  readonly work: Progress.Work
  stopping: boolean
}

/** Whatever it waits for, it looks up. */
const rouse = ({ bell, rouse }: Held) => {
  bell.ring()
  rouse.ring()
}

/**
 * Moves events from the outbox to their topics, each exactly once for who reads what is committed. Never ends by
 * itself.
 *
 * Relays share the shards by the database; that two believe to own the same one does no harm, for the broker obeys only
 * who came last. On interruption no further batch starts; what is on its way is finished within `drainTimeout`.
 */
export const serve = Effect.fnUntraced(function*(options: ShardRelayOptions) {
  const owners = yield* ShardOwners
  const wake = yield* OutboxWake.OutboxWake
  const id = randomUUID()
  /** In the order in which they came. */
  const held = new Set<Held>()
  const workers = yield* FiberSet.make<void>()
  const progress = yield* Progress.make(options.report)
  const all = () => Array.from(held, ({ owned }) => owned)

  const count = Effect.suspend(() => {
    const problems = Array.from(held).filter(({ work }) => work.problem !== undefined)
    return Metric.set(stuck, problems.length)
  })

  /** Ends well, whenever that may be: the batch in hand is finished, and the shard is free. */
  const end = (one: Held) => {
    one.stopping = true
    rouse(one)
  }

  const begin = Effect.fnUntraced(function*(owned: OwnedShard) {
    const one: Held = {
      owned,
      bell: Signal.make(),
      rouse: Signal.make(),
      work: progress.begin(`taking over shard ${owned.shard}`),
      stopping: false
    }
    held.add(one)
    const work = ShardWorker.serve(owned, {
      ...options,
      bell: one.bell,
      rouse: one.rouse,
      stopping: () => one.stopping,
      onProgress: (doing) => {
        if (doing === undefined) progress.end(one.work)
        else progress.moved(one.work, doing)
      },
      onOutage: (problem) => Effect.zipRight(Effect.sync(() => progress.stuck(one.work, problem)), count)
    }).pipe(
      Effect.catchTag("ShardLost", () => Effect.logInfo("another relay has this shard now")),
      // also after a defect: another relay need not wait for the lease
      Effect.ensuring(Effect.suspend(() => Effect.ignore(owners.release(owned)))),
      Effect.ensuring(Effect.sync(() => progress.end(one.work))),
      Effect.ensuring(Effect.sync(() => held.delete(one))),
      Effect.ensuring(count),
      Effect.annotateLogs({ shard: owned.shard })
    )
    yield* FiberSet.run(
      workers,
      Drain.finish(work, {
        onStop: Effect.suspend(() => {
          one.stopping = true
          return Effect.zipRight(CrashPoint.pass("relay-stopping"), Effect.sync(() => rouse(one)))
        }),
        within: options.drainTimeout
      })
    )
  })

  const ring = (concerns: (one: Held) => boolean) =>
    Effect.sync(() => {
      for (const one of held) if (concerns(one)) one.bell.ring()
    })
  /** Rings where something is due. */
  const ringDue = (tokens: ReadonlyArray<string>) => ring(({ owned }) => tokens.includes(owned.token))

  /** Where this relay stands, by the last answer of `keep`. */
  let standing: { readonly alive: number; readonly before: number; readonly shards: number } | undefined
  const kept = Signal.make()

  const turn = yield* Effect.makeSemaphore(1)
  let gone = false

  /** Keeps what is ours, and nothing else: it waits for no work. */
  const keep = Effect.gen(function*() {
    if (gone) return
    const tokens = all().map(({ token }) => token)
    const answer = yield* progress.asking("keeping the shards", owners.keep(id, all()))
    standing = answer
    for (const one of held) {
      // a worker that idles would not learn it
      if (!answer.kept.includes(one.owned.token) && tokens.includes(one.owned.token)) rouse(one)
    }
    yield* ringDue(answer.due)
    yield* Metric.set(owned, held.size)
    yield* options.report(progress.problem())
    kept.ring()
  }).pipe(turn.withPermits(1), Effect.catchTag("DatabaseUnavailable", (error) => options.report(error.message)))

  /** Gives back what is too much, and takes what is missing. */
  const balance = Effect.gen(function*() {
    if (standing === undefined) return
    const mine = share(standing.shards, standing.alive, standing.before)
    const active = Array.from(held).filter(({ stopping }) => !stopping)
    active.slice(mine).forEach(end)
    if (active.length >= mine) return
    yield* Effect.forEach(yield* progress.asking("taking shards", owners.acquire(mine - active.length)), begin)
    yield* Metric.set(owned, held.size)
  }).pipe(Effect.catchTag("DatabaseUnavailable", (error) => options.report(error.message)))

  const look = wake.rung.pipe(
    Effect.zipRight(Effect.suspend(() => {
      const idle = Array.from(held).filter(({ bell }) => bell.awaited())
      // a question is dearer than a look or two in vain; who is at work looks anyway when the batch in hand is sent
      const asked = idle.length > 2 ? idle : []
      const answer = asked.length > 0 ? owners.due(asked.map(({ owned }) => owned)) : Effect.succeed([])
      return Effect.zipRight(ring((one) => !asked.includes(one)), Effect.flatMap(answer, ringDue))
    })),
    Effect.catchTag("DatabaseUnavailable", (error) => Effect.logDebug("no look at the outbox", error))
  )

  const pause = Effect.sleep(Duration.min(roundInterval, options.pollInterval))
  // also when one of them fails: what the others have in hand is finished, and nobody waits for our leases
  const leave = Fiber.interruptAll(workers).pipe(
    // a statement that keeps would bring us back to life
    Effect.zipRight(
      turn.withPermits(1)(Effect.suspend(() => {
        gone = true
        return owners.leave(id)
      }))
    ),
    Effect.ignore,
    Effect.interruptible,
    Effect.timeoutOption(Duration.sum(Duration.decode(options.drainTimeout), Duration.seconds(2)))
  )
  // no new shard while they end; but those that we have are kept until they have ended
  const main = Effect.all(
    [Effect.forever(look), Effect.forever(Effect.zipRight(kept.rung, balance)), FiberSet.join(workers)],
    { concurrency: "unbounded", discard: true }
  ).pipe(Effect.zipRight(Effect.never), Effect.ensuring(leave))
  return yield* beside(main, [
    Effect.forever(Effect.zipRight(keep, pause)),
    progress.watch,
    Notifications.listen(options.notifications, OutboxWake.channel, wake.announce)
  ])
}, Effect.scoped)
