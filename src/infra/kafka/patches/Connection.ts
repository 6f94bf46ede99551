import type { Socket } from "node:net"
import type { Load, Patch } from "./Patch.js"

/** A connection to a broker, with the part of an answer that has arrived. */
interface Connection {
  readonly broker: string
  readonly socket: Socket | undefined
  readonly sasl: object | null | undefined
  chunks: ReadonlyArray<Buffer>
  bytesBuffered: number
  bytesNeeded: number
  readonly isConnected: () => boolean
  readonly disconnect: () => Promise<unknown>
  readonly requestQueue: {
    readonly inflight: ReadonlyMap<number, unknown>
    readonly rejectAll: (error: unknown) => void
  }
  connect: (this: Connection) => Promise<unknown>
  send: (this: Connection, protocol: { readonly request: { readonly apiName: string } }) => Promise<unknown>
  processData: (this: Connection, data: Buffer) => unknown
  rejectRequests: (this: Connection, error: Error) => void
}

/** Bytes of the length that begins each answer, and bytes that are enough to recognise another server. */
const [lengthBytes, headBytes] = [4, 64]
/** The first request to an address, and the most bytes of its answer, which has some hundred. */
const [firstRequest, firstAnswerBytes] = ["ApiVersions", 64 * 1024] as const
/** The most bytes of any answer. The text of another server, read as a length, is more. */
const answerBytes = 256 * 1024 * 1024
/** Milliseconds that a server has for its first answer, and then for an answer to a line of text. */
const patience = { kafka: 2_500, text: 500 }

/**
 * Connections without an answer to their first request, and the first bytes that arrived on them. `greeted`: the first request
 * has its answer, and no other has.
 */
const onTrial = new WeakMap<Connection, Buffer | "greeted">()

/** Why a server closed a connection that never worked. */
const hungUp = ({ broker, sasl }: Connection, greeted: boolean) =>
  !greeted
    ? `${broker} closed the connection without an answer: is it a port for TLS (KAFKA_TLS=true)?`
    : sasl
    ? undefined
    : `${broker} closed the connection at our second request: does it demand a login (KAFKA_SASL_MECHANISM)?`

/** An error after which kafkajs tries the next of its brokers. */
const connectionError = (message: string) =>
  Object.assign(new Error(message), { name: "KafkaJSConnectionError", retriable: true })

/** Other servers, by the beginning of their answer. */
const strangers: ReadonlyArray<readonly [RegExp, string]> = [
  [/^HTTP\/|^<(!DOCTYPE|html)/i, "it is an HTTP server"],
  [/^SSH-/, "it is an SSH server"],
  [/^[-+](ERR|NOAUTH|WRONGPASS|DENIED|LOADING|OK|PONG)/, "it is Redis"],
  [/^\x15\x03/, "it speaks TLS, and this client does not (KAFKA_TLS=true)"],
  [/^E\0\0/, "it is PostgreSQL"],
  [/^[^]{2}\0\0\n/, "it is MySQL"],
  [/^220[ -]/, "it is a mail or FTP server"]
]

const describe = (head: Buffer) =>
  strangers.find(([pattern]) => pattern.test(head.toString("latin1")))?.[1] ??
    `it begins with the bytes ${head.subarray(0, 8).toString("hex")}`

/** Ends the connection. All its requests fail with the error. */
const end = (connection: Connection, error: Error) => {
  connection.requestQueue.rejectAll(error)
  void connection.disconnect().catch(() => {})
  // kafkajs would only close its own side, and go on reading
  connection.socket?.destroy()
}

const notKafka = (connection: Connection, why: string) =>
  end(connection, connectionError(`${connection.broker} answered, but not as Kafka: ${why}`))

/**
 * Waits for the first answer. Some servers answer only a whole line, so they get an empty one after a while: the answer
 * shows which server it is. A broker that is only slow closes the connection then.
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

/**
 * Four defects of a connection:
 *
 * - After a reconnect kafkajs appends the first bytes to the half answer of the last connection. No later request ever gets
 *   an answer.
 * - After a time-out it sends the next request on the same connection, though its other end may be gone. Here the connection ends,
 *   and what has not left is dropped.
 * - Bytes that are no answer of Kafka throw in a socket listener, which ends the process. Here they end the connection.
 * - It waits for an answer of any length, and buffers all of it.
 */
const install = (load: Load) => {
  const { prototype } = load("kafkajs/src/network/connection") as { readonly prototype: Connection }

  const connect = prototype.connect
  prototype.connect = function() {
    if (!this.isConnected()) {
      this.chunks = []
      this.bytesBuffered = 0
      this.bytesNeeded = lengthBytes
      onTrial.delete(this)
    }
    return connect.call(this)
  }

  const send = prototype.send
  prototype.send = function(protocol) {
    const isFirst = protocol.request.apiName === firstRequest && this.isConnected()
    if (isFirst) onTrial.set(this, Buffer.alloc(0))
    const stop = isFirst ? watchFirst(this) : undefined
    return send.call(this, protocol).catch((error: unknown) => {
      if (error instanceof Error && error.name === "KafkaJSRequestTimeoutError") {
        this.requestQueue.rejectAll(error)
        if (this.socket?.writableEnded === false) this.socket.resetAndDestroy()
        void this.disconnect().catch(() => {})
      }
      throw error
    }).finally(stop)
  }

  const processData = prototype.processData
  prototype.processData = function(data) {
    const trial = onTrial.get(this)
    const before = trial === "greeted" ? undefined : trial
    if (trial === "greeted") onTrial.delete(this)
    const head = before === undefined
      ? data
      : Buffer.concat([before, data.subarray(0, headBytes)]).subarray(0, headBytes)
    const begins = before !== undefined || this.bytesBuffered === 0
    if (begins && head.length >= lengthBytes) {
      const length = head.readInt32BE(0)
      if (length < lengthBytes || length > (before === undefined ? answerBytes : firstAnswerBytes)) {
        return notKafka(this, describe(head))
      }
    }
    if (before !== undefined) onTrial.set(this, head)
    const requests = this.requestQueue.inflight.size
    try {
      const result = processData.call(this, data)
      if (before !== undefined && this.requestQueue.inflight.size < requests) onTrial.set(this, "greeted")
      // a whole answer, but to no request
      else if (before !== undefined && head.length > lengthBytes && this.bytesBuffered < lengthBytes) {
        return notKafka(this, describe(head))
      }
      return result
    } catch (error) {
      return notKafka(this, error instanceof Error ? error.message : "?")
    }
  }

  const rejectRequests = prototype.rejectRequests
  prototype.rejectRequests = function(error) {
    const trial = onTrial.get(this)
    const why = trial === undefined || error.name !== "KafkaJSConnectionClosedError"
      ? undefined
      : hungUp(this, trial === "greeted")
    rejectRequests.call(this, why === undefined ? error : connectionError(why))
  }
}

export const patch: Patch = {
  module: "kafkajs/src/network/connection",
  members: { connect: 0, send: 1, processData: 1, rejectRequests: 1 },
  install
}
