import { Effect } from "effect"
import { createRequire } from "node:module"

const require = createRequire(import.meta.url)

type Send = (
  this: { readonly port: number },
  protocol: { readonly request: { readonly apiName: string } }
) => Promise<unknown>

const pool = require("kafkajs/src/network/connectionPool") as { readonly prototype: { send: Send } }
const { createErrorFromCode } = require("kafkajs/src/protocol/error") as {
  readonly createErrorFromCode: (code: number) => Error
}

/** Result of kafkajs for these responses of a broker. */
export const errors = {
  notLeader: () => createErrorFromCode(6),
  groupLoading: () => createErrorFromCode(14),
  rebalanceInProgress: () => createErrorFromCode(27),
  unknownMember: () => createErrorFromCode(25),
  concurrentTransactions: () => createErrorFromCode(51),
  notEnoughReplicas: () => createErrorFromCode(19),
  topicAuthorizationFailed: () => createErrorFromCode(29),
  transactionalIdAuthorizationFailed: () => createErrorFromCode(53),
  /** The broker goes away before it answers. */
  closed: () => Object.assign(new Error("closed connection"), { name: "KafkaJSConnectionClosedError", retriable: true })
}

/** Lets `answer` replace broker responses for all clients of this process, for the life of the scope. */
export const between = (
  answer: (request: string, ask: () => Promise<unknown>, port: number) => Promise<unknown>
) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const { send } = pool.prototype
      pool.prototype.send = function(protocol) {
        return answer(protocol.request.apiName, () => send.call(this, protocol), this.port)
      }
      return send
    }),
    (send) => Effect.sync(() => void (pool.prototype.send = send))
  )
