import { createRequire } from "node:module"

/** What kafkajs 2.2.4 keeps of an answer that has not come in whole. */
interface Connection {
  chunks: ReadonlyArray<Buffer>
  bytesBuffered: number
  bytesNeeded: number
  readonly isConnected: () => boolean
}

const { prototype } = createRequire(import.meta.url)("kafkajs/src/network/connection") as {
  readonly prototype: Connection & { connect: (this: Connection) => Promise<unknown> }
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
