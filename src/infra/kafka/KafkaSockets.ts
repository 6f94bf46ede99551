import type { ISocketFactory } from "kafkajs"
import type { Socket } from "node:net"
import { connect, isIP } from "node:net"
import * as NodeTls from "node:tls"
import * as Tls from "../tls/Tls.js"
import type { KafkaTls } from "./KafkaSecurity.js"

/** Milliseconds. The value of kafkajs. */
const keepAlive = 60_000

/** The sockets of one client. */
export interface Sockets {
  readonly factory: ISocketFactory
  /**
   * Ends all connections and drops what they have not sent yet: after a mere close the operating system would go on sending for
   * minutes, and records would arrive after those of another worker when a network is back. The factory makes no more.
   */
  readonly leave: () => void
}

type SocketError = Error & { readonly code?: string }

/** What to change, by the fault of a failed handshake. */
const remedies: Readonly<Record<Tls.Fault, string>> = {
  authority: "set KAFKA_TLS_CA to the certificate of the brokers' authority",
  validity: "renew the certificate of the broker, or set the clock of this host",
  name: "write a name of the certificate in KAFKA_BROKERS and advertised.listeners, or set KAFKA_TLS_SERVER_NAME",
  plaintext: "use a port with TLS, or set KAFKA_TLS=false",
  "client certificate": "set KAFKA_TLS_CERT and KAFKA_TLS_KEY to a certificate that the brokers trust"
}

/** The problem of a TLS connection in plain words, with the setting to change. `secure`: the handshake was done. */
const tlsProblem = (error: SocketError, hasCertificate: boolean, secure: boolean) => {
  const { code = "" } = error
  // brokers in Java answer as to a bad certificate
  if (code.includes("ALERT_BAD_CERTIFICATE") && !hasCertificate) {
    return `it demands a client certificate (${code}): set KAFKA_TLS_CERT and KAFKA_TLS_KEY`
  }
  const fault = Tls.faultOf(error)
  if (fault !== undefined) return `${Tls.explain(error)}: ${remedies[fault]}`
  return code === "ECONNRESET" && !secure
    ? "it closed the connection during the TLS handshake: is it a port without TLS (KAFKA_TLS=false)?"
    : undefined
}

/** The address and its problem. Node leaves both out when it has tried several addresses of a host. */
const problemOf = ({ code, message }: SocketError, address: string) =>
  message.includes(address) ? message : `${address}: ${message || code || "cannot be reached"}`

/** What Node keeps below a TLS socket. It resets no such socket by itself, and has no public way to do so. */
interface Encrypted {
  readonly _handle?: { readonly _parent?: { readonly reset?: (done: () => void) => number } } | null
}

const connectTls = ({ files, serverName }: KafkaTls, host: string, port: number, onConnect: () => void) => {
  const name = serverName ?? (isIP(host) === 0 ? host : undefined)
  const socket = NodeTls.connect(
    { host, port, ...Tls.loadNow(files), ...(name === undefined ? {} : { servername: name }) },
    onConnect
  )
  return Object.assign(socket, {
    resetAndDestroy: () => {
      ;(socket as Encrypted)._handle?._parent?.reset?.(() => {})
      return socket.destroy()
    }
  })
}

/** Makes sockets whose errors name the address, and explain an address that is not one of `brokers`. */
export const make = (brokers: ReadonlyArray<string>, tls: KafkaTls | undefined): Sockets => {
  const open = new Set<Socket>()
  let left = false
  return {
    factory: ({ host, onConnect, port }) => {
      if (left) throw new Error("the client was left")
      const address = `${host}:${port}`
      let secure = false
      const socket = tls === undefined
        ? connect({ host, port }, onConnect)
        : connectTls(tls, host, port, () => {
          secure = true
          onConnect()
        })
      socket.setKeepAlive(true, keepAlive)
      open.add(socket)
      socket.on("close", () => open.delete(socket))
      // this listener runs before the one of kafkajs, which copies the message
      socket.on("error", (error) => {
        const encrypted = tls === undefined ? undefined : tlsProblem(error, tls.files.cert !== undefined, secure)
        const problem = encrypted === undefined ? problemOf(error, address) : `${address}: ${encrypted}`
        error.message = brokers.includes(address)
          ? problem
          : `${problem} (an address that the broker advertises: see its advertised.listeners)`
      })
      return socket
    },
    leave: () => {
      left = true
      for (const socket of open) {
        // the requests in flight fail by it; a reset alone is no error
        socket.emit("error", new Error("the client was left"))
        // libuv resets no socket that connects, or ends in order: kafkajs ends one when all its requests are answered
        if (socket.connecting || socket.writableEnded) socket.destroy()
        else socket.resetAndDestroy()
      }
    }
  }
}
