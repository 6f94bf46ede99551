import { createRequire } from "node:module"
import type { Socket } from "node:net"
import type { Patch } from "./Patch.js"

/** What kafkajs 2.2.4 keeps of an answer that has not come in whole. */
interface Connection {
  readonly broker: string
  readonly socket: Socket | undefined
  chunks: ReadonlyArray<Buffer>
  bytesBuffered: number
  bytesNeeded: number
  readonly isConnected: () => boolean
  readonly disconnect: () => Promise<unknown>
  readonly requestQueue: {
    readonly inflight: ReadonlyMap<number, unknown>
    readonly rejectAll: (error: unknown) => void
  }
}

const { prototype } = createRequire(import.meta.url)("kafkajs/src/network/connection") as {
  readonly prototype: Connection & {
    connect: (this: Connection) => Promise<unknown>
    send: (this: Connection, protocol: { readonly request: { readonly apiName: string } }) => Promise<unknown>
    processData: (this: Connection, data: Buffer) => unknown
    rejectRequests: (this: Connection, error: Error) => void
  }
}

/** Every answer begins with its length. So many bytes of it tell another server. */
const [lengthBytes, headBytes] = [4, 64]
/** The first question to an address is what it can do, and its answer some hundred bytes. */
const [firstQuestion, firstAnswerBytes] = ["ApiVersions", 64 * 1024] as const
/** More than a broker sends at once. What other servers say, read as a length, is more. */
const answerBytes = 256 * 1024 * 1024
/** So long a server may take for its first answer, and then for one to a line of text: milliseconds. */
const patience = { kafka: 2_500, text: 500 }

/** Connections that have asked the first question and have no answer yet, and the first bytes that came on them. */
const onTrial = new WeakMap<Connection, Buffer>()

/** An error for which kafkajs takes the next one of its brokers. */
const connectionError = (message: string) =>
  Object.assign(new Error(message), { name: "KafkaJSConnectionError", retriable: true })

/** Servers that people take for Kafka, by how they begin to talk. */
const strangers: ReadonlyArray<readonly [RegExp, string]> = [
  [/^HTTP\/|^<(!DOCTYPE|html)/i, "it is an HTTP server"],
  [/^SSH-/, "it is an SSH server"],
  [/^[-+](ERR|NOAUTH|WRONGPASS|DENIED|LOADING|OK|PONG)/, "it is Redis"],
  [/^\x15\x03/, "it speaks TLS, and this client does not"],
  [/^E\0\0/, "it is PostgreSQL"],
  [/^[^]{2}\0\0\n/, "it is MySQL"],
  [/^220[ -]/, "it is a mail or FTP server"]
]

const whatIs = (head: Buffer) =>
  strangers.find(([pattern]) => pattern.test(head.toString("latin1")))?.[1] ??
    `it begins with the bytes ${head.subarray(0, 8).toString("hex")}`

/** Ends the connection. Whoever waits for an answer gets the error. */
const end = (connection: Connection, error: Error) => {
  connection.requestQueue.rejectAll(error)
  void connection.disconnect().catch(() => {})
  // kafkajs would only close its own side, and go on taking what comes
  connection.socket?.destroy()
}

const isStranger = (connection: Connection, head: Buffer) =>
  end(connection, connectionError(`${connection.broker} answered, but not as Kafka: ${whatIs(head)}`))

const install = () => {
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
      onTrial.delete(this)
    }
    return connect.call(this)
  }

  /**
   * Waits for the first answer. Some servers answer only a whole line: they get one, for they tell what they are. A broker
   * that is only slow closes the connection then.
   */
  const watchFirst = (connection: Connection) => {
    let timer = setTimeout(() => {
      connection.socket?.write("\r\n\r\n")
      timer = setTimeout(() =>
        end(
          connection,
          connectionError(`${connection.broker} took the connection, and did not answer: is it Kafka?`)
        ), patience.text)
    }, patience.kafka)
    return () => clearTimeout(timer)
  }

  const send = prototype.send
  /** kafkajs repeats a request that got no answer in time on the same connection, though its other end may be long gone. */
  prototype.send = function(protocol) {
    const isFirst = protocol.request.apiName === firstQuestion && this.isConnected()
    if (isFirst) onTrial.set(this, Buffer.alloc(0))
    const stop = isFirst ? watchFirst(this) : undefined
    return send.call(this, protocol).catch((error: unknown) => {
      if (error instanceof Error && error.name === "KafkaJSRequestTimeoutError") {
        this.requestQueue.rejectAll(error)
        void this.disconnect().catch(() => {})
      }
      throw error
    }).finally(stop)
  }

  const processData = prototype.processData
  /**
   * kafkajs believes in any length of an answer, and lets bytes that are no answer of Kafka (another server has the port)
   * end the process; they end the connection.
   */
  prototype.processData = function(data) {
    const before = onTrial.get(this)
    const head = before === undefined
      ? data
      : Buffer.concat([before, data.subarray(0, headBytes)]).subarray(0, headBytes)
    const begins = before !== undefined || this.bytesBuffered === 0
    if (begins && head.length >= lengthBytes) {
      const length = head.readInt32BE(0)
      if (length < lengthBytes || length > (before === undefined ? answerBytes : firstAnswerBytes)) {
        return isStranger(this, head)
      }
    }
    if (before !== undefined) onTrial.set(this, head)
    const asked = this.requestQueue.inflight.size
    try {
      const result = processData.call(this, data)
      if (before !== undefined && this.requestQueue.inflight.size < asked) onTrial.delete(this)
      // a whole answer, but to nothing that was asked
      else if (before !== undefined && head.length > lengthBytes && this.bytesBuffered < lengthBytes) {
        return isStranger(this, head)
      }
      return result
    } catch (error) {
      return end(
        this,
        connectionError(`${this.broker} answered, but not as Kafka: ${error instanceof Error ? error.message : "?"}`)
      )
    }
  }

  const rejectRequests = prototype.rejectRequests
  /** The other end closed the connection. */
  prototype.rejectRequests = function(error) {
    rejectRequests.call(
      this,
      !onTrial.has(this) || error.name !== "KafkaJSConnectionClosedError"
        ? error
        : connectionError(`${this.broker} closed the connection without an answer: is it a port for TLS?`)
    )
  }
}

export const patch: Patch = {
  module: "kafkajs/src/network/connection",
  members: { connect: 0, send: 1, processData: 1, rejectRequests: 1 },
  install
}
