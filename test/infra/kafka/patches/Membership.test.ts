import { patch } from "../../../../src/infra/kafka/patches/Membership.js"
import type { Load } from "../../../../src/infra/kafka/patches/Patch.js"
import { contract, logger } from "./Library.js"

interface ConsumerGroup {
  coordinator: object
  memberId: string
  /** Milliseconds of the epoch. */
  lastRequest: number
  readonly joinAndSync: () => Promise<void>
  readonly heartbeat: (options: { readonly interval: number }) => Promise<void>
}

const [groupId, interval] = ["payments", 1_000]

const closed = () => Object.assign(new Error("closed"), { name: "KafkaJSConnectionClosedError", retriable: true })

/** A member whose broker `old` has gone away; the group is at broker `next` now. `did` is what it did. */
const memberOf = (load: Load) => {
  const did: Array<string> = []
  const broker = (name: string, answer: () => Promise<unknown>) => ({
    heartbeat: () => {
      did.push(`heartbeat to ${name}`)
      return answer()
    },
    joinGroup: () => {
      did.push(`join at ${name}`)
      return Promise.reject(closed())
    }
  })
  const next = broker("next", () => Promise.resolve())
  const ConsumerGroup = load("kafkajs/src/consumer/consumerGroup") as new(options: object) => ConsumerGroup
  const group = new ConsumerGroup({
    cluster: { findGroupCoordinator: () => Promise.resolve(next) },
    groupId,
    topics: ["inventory"],
    topicConfigurations: {},
    assigners: [],
    logger,
    retry: { retries: 0 },
    instrumentationEmitter: { emit: () => {} }
  })
  group.memberId = "member"
  group.lastRequest = 0
  group.coordinator = broker("old", () => Promise.reject(closed()))
  return { did, group, next }
}

/** What a promise ends with: the type of an error of the protocol, or else its name. */
const endOf = (promise: Promise<unknown>) =>
  promise.then(() => "ended", (error: Error & { readonly type?: string }) => error.type ?? error.name)

contract(
  "another broker coordinates the group: heartbeats go to the old one",
  patch,
  {
    stock: { did: ["heartbeat to old"], end: "KafkaJSConnectionClosedError" },
    patched: { did: ["heartbeat to old", "heartbeat to next"], end: "ended" }
  },
  async (load) => {
    const { did, group } = memberOf(load)
    const end = await endOf(group.heartbeat({ interval }))
    return { did, end }
  }
)

contract(
  "an attempt to join again fails: heartbeats go on without it",
  patch,
  {
    stock: { did: ["join at next", "heartbeat to next"], end: "ended" },
    patched: { did: ["join at next"], end: "REBALANCE_IN_PROGRESS" }
  },
  async (load) => {
    const { did, group } = memberOf(load)
    await endOf(group.joinAndSync())
    const end = await endOf(group.heartbeat({ interval }))
    return { did, end }
  }
)

contract(
  "two fetches join again at the same time: the member joins twice",
  patch,
  { stock: ["join at next", "join at next"], patched: ["join at next"] },
  async (load) => {
    const { did, group } = memberOf(load)
    await Promise.all([endOf(group.joinAndSync()), endOf(group.joinAndSync())])
    return did
  }
)

contract(
  "the clock is set back by an hour: no heartbeat is sent for an hour",
  patch,
  { stock: [] as ReadonlyArray<string>, patched: ["heartbeat to next"] },
  async (load) => {
    const { did, group, next } = memberOf(load)
    group.coordinator = next
    group.lastRequest = Date.now() + 3_600_000
    await group.heartbeat({ interval })
    return did
  }
)
