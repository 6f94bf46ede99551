import { createRequire } from "node:module"
import type { Patch } from "./Patch.js"

interface Message {
  readonly offset: string
  readonly key: Buffer | null
  readonly batchContext: { readonly producerId: unknown; readonly inTransaction: boolean }
  isControlRecord: boolean
}

/** What a broker answers for a partition: records, and which producers' records from which offset on are aborted. */
export interface Fetched {
  readonly messages: ReadonlyArray<Message>
  abortedTransactions: ReadonlyArray<{ readonly producerId: unknown; readonly firstOffset: string }> | null
}

/** Key of the record that ends an aborted transaction: version 0, type 0. */
const abortKey = Buffer.alloc(4)

/**
 * Takes aborted records out, as if they were control records: their offsets still count.
 *
 * kafkajs 2.2.4 does it wrongly as soon as transactions of several producers are open at the same time. It takes the
 * brokers' list for sorted by first offset, which it is not, and opens one transaction a record: a `read_committed`
 * consumer then sees records that were never committed.
 */
export const takeOut = (partition: Fetched) => {
  const ahead = [...partition.abortedTransactions ?? []].sort((a, b) => Number(a.firstOffset) - Number(b.firstOffset))
  const aborting = new Set<string>()
  for (const message of partition.messages) {
    while (ahead.length > 0 && Number(ahead[0]!.firstOffset) <= Number(message.offset)) {
      aborting.add(String(ahead.shift()!.producerId))
    }
    const { inTransaction, producerId } = message.batchContext
    if (message.isControlRecord) {
      if (message.key?.equals(abortKey) === true) aborting.delete(String(producerId))
    } else if (inTransaction && aborting.has(String(producerId))) {
      message.isControlRecord = true
    }
  }
  partition.abortedTransactions = []
}

interface Answer {
  readonly responses: ReadonlyArray<{ readonly partitions: ReadonlyArray<Fetched> }>
}

const Broker = createRequire(import.meta.url)("kafkajs/src/broker") as {
  readonly prototype: { fetch: (request: unknown) => Promise<Answer> }
}

const install = () => {
  const fetch = Broker.prototype.fetch
  Broker.prototype.fetch = async function(request) {
    const answer = await fetch.call(this, request)
    for (const { partitions } of answer.responses) partitions.forEach(takeOut)
    return answer
  }
}

export const patch: Patch = { module: "kafkajs/src/broker", members: { fetch: 1 }, install }
