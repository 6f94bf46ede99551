import { createRequire } from "node:module"
import type { Patch } from "./Patch.js"

interface Wanted {
  readonly groupId: string
  readonly coordinatorType: number
}

interface Cluster {
  readonly findGroupCoordinatorMetadata: (wanted: Wanted) => Promise<unknown>
}

const { prototype } = createRequire(import.meta.url)("kafkajs/src/cluster") as {
  readonly prototype: { findGroupCoordinatorMetadata: (this: Cluster, wanted: Wanted) => Promise<unknown> }
}

const transaction = 1

/** By the client of a transactional producer: the coordinators that it has found. */
const found = new WeakMap<Cluster, Map<string, Promise<unknown>>>()

const install = () => {
  const find = prototype.findGroupCoordinatorMetadata
  /**
   * kafkajs asks who coordinates a transaction, and who the group of its offsets, four times a transaction: nearly half of
   * all its requests. A transactional producer is ours for as long as nothing fails, and then another one is made, which
   * asks anew.
   */
  prototype.findGroupCoordinatorMetadata = function(wanted) {
    const known = found.get(this)
    if (known === undefined && wanted.coordinatorType !== transaction) return find.call(this, wanted)
    const place = `${wanted.coordinatorType} ${wanted.groupId}`
    const earlier = known?.get(place)
    if (earlier !== undefined) return earlier
    const asked = find.call(this, wanted)
    found.set(this, (known ?? new Map<string, Promise<unknown>>()).set(place, asked))
    asked.catch(() => found.get(this)!.delete(place))
    return asked
  }
}

export const patch: Patch = { module: "kafkajs/src/cluster", members: { findGroupCoordinatorMetadata: 1 }, install }
