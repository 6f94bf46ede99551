import type { Load, Patch } from "./Patch.js"

/** The broker that coordinates a group. */
type Coordinator = object

/** The group of one consumer. */
interface ConsumerGroup {
  readonly groupId: string
  readonly cluster: { readonly findGroupCoordinator: (group: { readonly groupId: string }) => Promise<Coordinator> }
  coordinator: Coordinator | null
  readonly offsetManager: { coordinator: Coordinator } | null
  /** When the last heartbeat was answered, in milliseconds of the epoch. The next is due an interval later. */
  lastRequest: number
  joinAndSync: (this: ConsumerGroup) => Promise<void>
  heartbeat: (this: ConsumerGroup, options: { readonly interval: number }) => Promise<void>
}

/** Errors of a broker that does not answer any more. */
const isAway = (error: unknown) =>
  ["KafkaJSConnectionError", "KafkaJSConnectionClosedError", "KafkaJSRequestTimeoutError"]
    .includes((error as Error).name)

/** kafkajs joins again after an error of this type. */
const notJoined = () =>
  Object.assign(new Error("the last attempt to join the group failed"), { type: "REBALANCE_IN_PROGRESS" })

/**
 * Three defects of a member of a group:
 *
 * - A member that joins again gives up when the coordinator goes away, and goes on with its old assignment. The next coordinator
 *   takes its heartbeats, so it never joins again. Several fetches may also join at the same time, and make several members.
 * - When another broker coordinates the group, heartbeats and commits still go to the one that is gone, until the consumer crashes.
 * - It measures the pause between heartbeats by the wall clock. After the clock was set back by an hour, none is sent for an hour.
 */
const install = (load: Load) => {
  const { prototype } = load("kafkajs/src/consumer/consumerGroup") as { readonly prototype: ConsumerGroup }
  const joining = new WeakMap<ConsumerGroup, Promise<void>>()
  const finding = new WeakMap<ConsumerGroup, Promise<void>>()
  const failed = new WeakSet<ConsumerGroup>()
  /** When the last heartbeat was answered, by the monotonic clock. */
  const answered = new WeakMap<ConsumerGroup, number>()

  /** Runs one at a time for each group. A caller that comes meanwhile gets the same end. */
  const once = (
    running: WeakMap<ConsumerGroup, Promise<void>>,
    group: ConsumerGroup,
    run: () => Promise<void>
  ): Promise<void> => {
    const already = running.get(group)
    if (already !== undefined) return already
    const begun = run().finally(() => running.delete(group))
    running.set(group, begun)
    return begun
  }

  const joinAndSync = prototype.joinAndSync
  prototype.joinAndSync = function() {
    return once(joining, this, async () => {
      failed.add(this)
      await joinAndSync.call(this)
      failed.delete(this)
    })
  }

  const findCoordinator = async (group: ConsumerGroup) => {
    const coordinator = await group.cluster.findGroupCoordinator({ groupId: group.groupId })
    group.coordinator = coordinator
    if (group.offsetManager !== null) group.offsetManager.coordinator = coordinator
  }

  const heartbeat = prototype.heartbeat
  prototype.heartbeat = async function(options) {
    if (failed.has(this) && !joining.has(this)) throw notJoined()
    const due = performance.now() >= (answered.get(this) ?? 0) + options.interval
    if (due) this.lastRequest = 0
    try {
      await heartbeat.call(this, options)
      if (due) answered.set(this, performance.now())
    } catch (error) {
      if (!isAway(error)) throw error
      // the first error is one after which kafkajs tries again
      await once(finding, this, () => findCoordinator(this)).catch(() => Promise.reject(error))
      await heartbeat.call(this, options)
    }
  }
}

export const patch: Patch = {
  module: "kafkajs/src/consumer/consumerGroup",
  members: { heartbeat: 1, joinAndSync: 0 },
  install
}
