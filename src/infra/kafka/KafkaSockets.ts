import type { ISocketFactory } from "kafkajs"
import type { Socket } from "node:net"
import { connect } from "node:net"

/** Milliseconds. The value of kafkajs. */
const keepAlive = 60_000

/** The sockets of one client. */
export interface Sockets {
  readonly factory: ISocketFactory
  /** Destroys all sockets. The factory makes no more. */
  readonly leave: () => void
}

/** The address and its problem. Node leaves both out when it has tried several addresses of a host. */
const problemOf = ({ code, message }: Error & { readonly code?: string }, address: string) =>
  message.includes(address) ? message : `${address}: ${message || code || "cannot be reached"}`

/** Makes sockets whose errors name the address, and explain an address that is not one of `brokers`. */
export const make = (brokers: ReadonlyArray<string>): Sockets => {
  const open = new Set<Socket>()
  let left = false
  return {
    factory: ({ host, onConnect, port }) => {
      if (left) throw new Error("the client was left")
      const address = `${host}:${port}`
      const socket = connect({ host, port }, onConnect).setKeepAlive(true, keepAlive)
      open.add(socket)
      socket.on("close", () => open.delete(socket))
      // this listener runs before the one of kafkajs, which copies the message
      socket.on("error", (error) => {
        const problem = problemOf(error, address)
        error.message = brokers.includes(address)
          ? problem
          : `${problem} (an address that the broker advertises: see its advertised.listeners)`
      })
      return socket
    },
    leave: () => {
      left = true
      for (const socket of open) socket.destroy(new Error("the client was left"))
    }
  }
}
