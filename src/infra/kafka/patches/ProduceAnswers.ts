import { createRequire } from "node:module"
import type { Patch } from "./Patch.js"

/** What a broker answers when it has taken all that it was asked to write. */
export interface Taken {
  readonly topics: ReadonlyArray<{
    readonly partitions: ReadonlyArray<{ readonly partition: number; readonly baseOffset: string }>
  }>
}

interface Request {
  readonly topicData: ReadonlyArray<
    { readonly partitions: ReadonlyArray<{ readonly messages: ReadonlyArray<object> }> }
  >
}

const Broker = createRequire(import.meta.url)("kafkajs/src/broker") as {
  readonly prototype: { produce: (request: Request) => Promise<Taken> }
}

const answers = new WeakMap<object, Promise<Taken>>()

/**
 * The answer to the request under way to write this record and others, of which it is the first of its partition; none if
 * there is no request. It fails when a partition of the request was not written.
 */
export const answerTo = (record: object) => answers.get(record)

/** Forgets the answer: the next is to another request. */
export const forget = (record: object) => answers.delete(record)

const install = () => {
  const produce = Broker.prototype.produce
  Broker.prototype.produce = function(request) {
    const answer = produce.call(this, request)
    for (const { partitions } of request.topicData) {
      for (const { messages } of partitions) answers.set(messages[0]!, answer)
    }
    return answer
  }
}

export const patch: Patch = { module: "kafkajs/src/broker", members: { produce: 1 }, install }
