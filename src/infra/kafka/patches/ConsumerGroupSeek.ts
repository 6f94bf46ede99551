import type { Load, Patch } from "./Patch.js"

type TopicPartitions = ReadonlyArray<{ readonly topic: string; readonly partitions: ReadonlyArray<number> }>

/** The group of one consumer. */
interface ConsumerGroup {
  readonly groupId: string
  /** Milliseconds that a fetch may wait for records. */
  readonly maxWaitTime: number
  /** Null before the consumer has joined the group for the first time. */
  readonly generationId: number | null
  readonly instrumentationEmitter: { readonly emit: (event: string, payload: object) => void }
  readonly isPaused: (topic: string, partition: number) => boolean
  joinAndSync: (this: ConsumerGroup) => Promise<void>
  seekOffsets: (this: ConsumerGroup, partitions: TopicPartitions) => Promise<void>
  recoverFromFetch: (this: ConsumerGroup, error: Error) => Promise<void>
  resume: (this: ConsumerGroup, partitions: TopicPartitions) => void
}

/** Fetches of a group whose partitions are all paused. Each function ends the wait of one. */
const waiting = new WeakMap<ConsumerGroup, Set<() => void>>()

const nothingToFetch = new Error("all partitions are paused")

/** Ends when a partition is resumed. Fails after the time of a fetch. */
const resumed = (group: ConsumerGroup) =>
  new Promise<void>((resolve, reject) => {
    const others = waiting.get(group) ?? new Set()
    waiting.set(group, others)
    const wake = () => {
      clearTimeout(timer)
      resolve()
    }
    const timer = setTimeout(() => {
      others.delete(wake)
      reject(nothingToFetch)
    }, group.maxWaitTime)
    others.add(wake)
  })

/** The number of consumers of this process that choose their own positions, by group. */
const choosing = new Map<string, number>()

/** Consumers of this group choose their own positions until the caller calls the function that this returns. */
export const choosesPositions = (groupId: string) => {
  choosing.set(groupId, (choosing.get(groupId) ?? 0) + 1)
  return () => void choosing.set(groupId, choosing.get(groupId)! - 1)
}

/**
 * Three defects of the group of a consumer:
 *
 * - When all partitions are paused, kafkajs sleeps for the time of a fetch, also when one is resumed meanwhile.
 * - After OFFSET_OUT_OF_RANGE it goes on at the first or last record without a word, and commits offset -2. For a consumer
 *   that chooses its positions the patch lets the consumer crash with that error.
 * - It emits REBALANCING in only one of the cases in which it joins the group again.
 */
const install = (load: Load) => {
  const { events } = load("kafkajs/src/consumer/instrumentationEvents") as {
    readonly events: { readonly REBALANCING: string }
  }
  const { prototype } = load("kafkajs/src/consumer/consumerGroup") as { readonly prototype: ConsumerGroup }

  const seekOffsets = prototype.seekOffsets
  prototype.seekOffsets = async function(partitions) {
    await seekOffsets.call(this, partitions)
    if (partitions.some(({ partitions, topic }) => partitions.some((_) => !this.isPaused(topic, _)))) return
    await resumed(this)
    // the caller may have set another position before it resumed the partition
    await seekOffsets.call(this, partitions)
  }

  const resume = prototype.resume
  prototype.resume = function(partitions) {
    resume.call(this, partitions)
    const wakes = waiting.get(this)
    waiting.delete(this)
    wakes?.forEach((wake) => wake())
  }

  const recoverFromFetch = prototype.recoverFromFetch
  prototype.recoverFromFetch = function(error) {
    if (error === nothingToFetch) return Promise.resolve()
    if (error.name === "KafkaJSOffsetOutOfRange" && (choosing.get(this.groupId) ?? 0) > 0) {
      return Promise.reject(Object.assign(error, { retriable: false }))
    }
    return recoverFromFetch.call(this, error)
  }

  const joinAndSync = prototype.joinAndSync
  prototype.joinAndSync = function() {
    const { generationId, groupId, instrumentationEmitter } = this
    if (generationId !== null) instrumentationEmitter.emit(events.REBALANCING, { groupId })
    return joinAndSync.call(this)
  }
}

export const patch: Patch = {
  module: "kafkajs/src/consumer/consumerGroup",
  members: { joinAndSync: 0, seekOffsets: 1, recoverFromFetch: 1, resume: 1 },
  install
}
