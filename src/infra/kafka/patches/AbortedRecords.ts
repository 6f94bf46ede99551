import type { Load, Patch } from "./Patch.js"

interface Message {
  readonly offset: string
  readonly key: Buffer | null
  readonly batchContext: { readonly producerId: unknown; readonly inTransaction: boolean }
  isControlRecord: boolean
}

/** The records of a partition, and from which offset on those of a producer were aborted. */
interface Fetched {
  readonly messages: ReadonlyArray<Message>
  abortedTransactions: ReadonlyArray<{ readonly producerId: unknown; readonly firstOffset: string }> | null
}

interface Answer {
  readonly responses: ReadonlyArray<{ readonly partitions: ReadonlyArray<Fetched> }>
}

/** Key of the control record that ends an aborted transaction: version 0, type 0. */
const abortKey = Buffer.alloc(4)

/** Marks aborted records as control records, which kafkajs leaves out. Their offsets still count. */
const leaveOut = (partition: Fetched) => {
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

/**
 * Leaves aborted records out.
 *
 * Defect: kafkajs expects the brokers' list of aborted transactions to be sorted by first offset. Brokers sort it by the
 * end of the transactions. kafkajs also opens at most one transaction at each record.
 */
const install = (load: Load) => {
  const { prototype } = load("kafkajs/src/broker") as {
    readonly prototype: { fetch: (request: unknown) => Promise<Answer> }
  }
  const fetch = prototype.fetch
  prototype.fetch = async function(request) {
    const answer = await fetch.call(this, request)
    for (const { partitions } of answer.responses) partitions.forEach(leaveOut)
    return answer
  }
}

export const patch: Patch = { module: "kafkajs/src/broker", members: { fetch: 1 }, install }
