import { Effect } from "effect"
import { createRequire } from "node:module"

interface Request {
  readonly request: { readonly apiName: string }
}

const require = createRequire(import.meta.url)
const { prototype } = require("kafkajs/src/network/connection") as {
  readonly prototype: { send: (this: { readonly port: number }, request: Request) => Promise<unknown> }
}
const { KafkaJSProtocolError } = require("kafkajs/src/errors") as {
  readonly KafkaJSProtocolError: new(error: object) => Error
}

/** What a broker answers that has given a partition away. */
export const notLeader = () => {
  const { code, type } = { type: "NOT_LEADER_FOR_PARTITION", code: 6 }
  return Promise.reject(new KafkaJSProtocolError({ message: type, type, code, retriable: true }))
}

/** Puts itself between this process and the brokers' ports when records are written; for the life of the scope. */
export const through = (handle: (port: number, send: () => Promise<unknown>) => Promise<unknown>) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const { send } = prototype
      prototype.send = function(request) {
        const next = () => send.call(this, request)
        return request.request.apiName === "Produce" ? handle(this.port, next) : next()
      }
      return send
    }),
    (send) => Effect.sync(() => void (prototype.send = send))
  )
