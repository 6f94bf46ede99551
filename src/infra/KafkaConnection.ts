import { createRequire } from "node:module"

/** What kafkajs 2.2.4 keeps of an answer that has not come in whole. */
interface Connection {
  chunks: ReadonlyArray<Buffer>
  bytesBuffered: number
  bytesNeeded: number
  readonly isConnected: () => boolean
  readonly disconnect: () => Promise<unknown>
  readonly requestQueue: { readonly rejectAll: (error: unknown) => void }
}

const { prototype } = createRequire(import.meta.url)("kafkajs/src/network/connection") as {
  readonly prototype: Connection & {
    connect: (this: Connection) => Promise<unknown>
    send: (this: Connection, request: unknown) => Promise<unknown>
    processData: (this: Connection, data: Buffer) => unknown
  }
}

/** Every answer begins with its length. */
const lengthBytes = 4

const connect = prototype.connect
/**
 * kafkajs connects the same object again, and puts the first bytes that come behind the half of an answer in which the
 * last connection broke: from then on it understands nothing, and no request is ever answered.
 */
prototype.connect = function() {
  if (!this.isConnected()) {
    this.chunks = []
    this.bytesBuffered = 0
    this.bytesNeeded = lengthBytes
  }
  return connect.call(this)
}

const send = prototype.send
/** kafkajs repeats a request that got no answer in time on the same connection, though its other end may be long gone. */
prototype.send = function(request) {
  return send.call(this, request).catch((error: unknown) => {
    if (error instanceof Error && error.name === "KafkaJSRequestTimeoutError") {
      this.requestQueue.rejectAll(error)
      void this.disconnect().catch(() => {})
    }
    throw error
  })
}

const processData = prototype.processData
/** kafkajs lets bytes that are no answer of Kafka (another server has the port now) end the process; they end the connection. */
prototype.processData = function(data) {
  try {
    return processData.call(this, data)
  } catch (error) {
    this.requestQueue.rejectAll(Object.assign(new Error("what came is no answer of Kafka", { cause: error }), {
      retriable: true
    }))
    return void this.disconnect().catch(() => {})
  }
}
