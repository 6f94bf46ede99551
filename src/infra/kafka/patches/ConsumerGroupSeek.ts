import { createRequire } from "node:module"
import type { Patch } from "./Patch.js"

type TopicPartitions = ReadonlyArray<{ readonly topic: string; readonly partitions: ReadonlyArray<number> }>

/** What kafkajs 2.2.4 knows of the group of one consumer. */
interface ConsumerGroup {
  readonly groupId: string
  readonly maxWaitTime: number
  /** None before the group is joined for the first time. */
  readonly generationId: number | null
  readonly instrumentationEmitter: { readonly emit: (event: string, payload: object) => void }
  readonly isPaused: (topic: string, partition: number) => boolean
}

const require = createRequire(import.meta.url)
const { events } = require("kafkajs/src/consumer/instrumentationEvents") as {
  readonly events: { readonly REBALANCING: string }
}
const { prototype } = require("kafkajs/src/consumer/consumerGroup") as {
  readonly prototype: ConsumerGroup & {
    joinAndSync: (this: ConsumerGroup) => Promise<void>
    seekOffsets: (this: ConsumerGroup, partitions: TopicPartitions) => Promise<void>
    recoverFromFetch: (this: ConsumerGroup, error: Error) => Promise<void>
    resume: (this: ConsumerGroup, partitions: TopicPartitions) => void
  }
}

/** Fetches that have nothing to ask for, and wait for a partition to be resumed. */
const waiting = new WeakMap<ConsumerGroup, Set<() => void>>()

const nothingToFetch = new Error("all partitions are paused")

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

/** How many consumers of this process choose their own positions, by group. */
const choosing = new Map<string, number>()

/** The consumers of this group choose where they read, until the function that it answers is called. */
export const choosesPositions = (groupId: string) => {
  choosing.set(groupId, (choosing.get(groupId) ?? 0) + 1)
  return () => void choosing.set(groupId, choosing.get(groupId)! - 1)
}

const install = () => {
  const seekOffsets = prototype.seekOffsets
  /** kafkajs sleeps for as long as a fetch may take when all partitions are paused, though one is resumed meanwhile. */
  prototype.seekOffsets = async function(partitions) {
    await seekOffsets.call(this, partitions)
    if (partitions.some(({ partitions, topic }) => partitions.some((_) => !this.isPaused(topic, _)))) return
    await resumed(this)
    // who resumes a partition may have told first where it is to be read
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
  /**
   * kafkajs goes on at the first record when its position is not there any more, tells nobody, and commits offset -2. Who
   * chooses positions is told instead: the consumer crashes with that error.
   */
  prototype.recoverFromFetch = function(error) {
    if (error === nothingToFetch) return Promise.resolve()
    if (error.name === "KafkaJSOffsetOutOfRange" && (choosing.get(this.groupId) ?? 0) > 0) {
      return Promise.reject(Object.assign(error, { retriable: false }))
    }
    return recoverFromFetch.call(this, error)
  }

  const joinAndSync = prototype.joinAndSync
  /** kafkajs tells that the group is shared anew only in one of the cases in which it joins again. */
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
