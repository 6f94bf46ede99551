import type { Load, Patch } from "./Patch.js"

/** The answer of a broker that has written all records of a request. */
export interface Written {
  readonly topics: ReadonlyArray<{
    readonly topicName: string
    readonly partitions: ReadonlyArray<{ readonly partition: number; readonly baseOffset: string }>
  }>
}

/** A request of records to one broker. */
export interface ProduceRequest {
  readonly topicData: ReadonlyArray<{
    readonly topic: string
    readonly partitions: ReadonlyArray<{ readonly partition: number; readonly messages: ReadonlyArray<object> }>
  }>
}

/** Calls `send` when the request may leave, and returns the answer of the broker. Throws to stop the request. */
export type Gate = (request: ProduceRequest, send: () => Promise<Written>) => Promise<Written>

const gates = new WeakMap<object, Gate>()

/** Requests that begin with this record go through `gate`, until the record gets another. */
export const guard = (record: object, gate: Gate) => {
  gates.set(record, gate)
}

/**
 * Lets the sender of records see each request before it leaves, and each broker's answer.
 *
 * Defect: kafkajs sends the records of one call to several brokers, and fails with the first broker that fails. It drops the
 * answers of the others, and asks them again under new sequence numbers: brokers then write the records twice.
 */
const install = (load: Load) => {
  const { prototype } = load("kafkajs/src/broker") as {
    readonly prototype: { produce: (request: ProduceRequest) => Promise<Written> }
  }
  const produce = prototype.produce
  prototype.produce = function(request) {
    const send = () => produce.call(this, request)
    const gate = gates.get(request.topicData[0]!.partitions[0]!.messages[0]!)
    return gate === undefined ? send() : gate(request, send)
  }
}

export const patch: Patch = { module: "kafkajs/src/broker", members: { produce: 1 }, install }
