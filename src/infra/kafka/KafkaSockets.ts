import type { ISocketFactory } from "kafkajs"
import type { Socket } from "node:net"
import { connect } from "node:net"

/** Milliseconds, as kafkajs has it. */
const keepAlive = 60_000

/** The sockets of one client. */
export interface Sockets {
  readonly factory: ISocketFactory
  /** Destroys all sockets, and opens none any more. */
  readonly leave: () => void
}

/** An address and what is wrong with it, also where Node tells neither: it tried several addresses of a name. */
const problemOf = ({ code, message }: Error & { readonly code?: string }, address: string) =>
  message.includes(address) ? message : `${address}: ${message || code || "cannot be reached"}`

/** Sockets that name the address in their errors, and say of one that is not among `brokers` where it comes from. */
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
      // before the listener of kafkajs, which makes its own error of it
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
