import type * as Grpc from "@grpc/grpc-js"
import { Effect } from "effect"
import type { Caller } from "../auth/Caller.js"
import * as Rate from "../runtime/Rate.js"
import type { Authenticator } from "./auth/Authenticator.js"
import { Refused } from "./auth/Authenticator.js"
import * as GrpcSessions from "./GrpcSessions.js"

export interface AccessOptions {
  /** Undefined: every caller may make every call, and none has a name. */
  readonly authenticator?: Authenticator | undefined
  /** Calls a second of one caller, or of one address where the caller has no name. Undefined: no limit. */
  readonly callsPerSecond?: number | undefined
}

/** Admits a call or refuses it. Returns the name of the caller, if it has one. */
export type Admit = (call: Grpc.ServerUnaryCall<any, any>) => Effect.Effect<string | undefined, Refused>

const anonymous = Effect.succeed(undefined)

const tooMany = (callsPerSecond: number, retryMillis: number) =>
  new Refused({
    refusal: {
      code: "RESOURCE_EXHAUSTED",
      reason: "RATE_LIMIT_EXCEEDED",
      details: `more than ${callsPerSecond} calls a second: call again in ${retryMillis} ms`,
      metadata: { calls_per_second: String(callsPerSecond) },
      retryMillis
    }
  })

const missing = ({ name }: Caller, scope: string, method: string) =>
  new Refused({
    refusal: {
      code: "PERMISSION_DENIED",
      reason: "MISSING_SCOPE",
      details: `${name} may not call ${method}: it needs the scope ${scope}`,
      metadata: { scope }
    }
  })

/**
 * The admission to the methods of a server. A method without a scope is open to everyone.
 *
 * A call with an unknown credential counts for its address before the credential is checked. The limit so bounds the number of
 * checks.
 */
export const make = Effect.fnUntraced(function*({ authenticator, callsPerSecond }: AccessOptions) {
  const take = callsPerSecond === undefined ? undefined : Rate.make(callsPerSecond, yield* Effect.clock)
  /** Fails when the peer makes too many calls. Undefined when it may go on. */
  const exceeds = (peer: string) => {
    const retryMillis = take === undefined ? 0 : take(peer)
    return retryMillis > 0 ? tooMany(callsPerSecond!, retryMillis) : undefined
  }
  // a caller's name never begins with a space, so no name is an address
  const addressOf = (call: Grpc.ServerUnaryCall<any, any>) => ` ${GrpcSessions.socketOf(call)?.remoteAddress ?? ""}`

  return (method: string, scope: string | undefined): Admit => {
    if (authenticator === undefined || scope === undefined) {
      return take === undefined ? () => anonymous : (call) => exceeds(addressOf(call)) ?? anonymous
    }
    const permitted = (caller: Caller) =>
      caller.scopes.has(scope) ? Effect.succeed(caller.name) : missing(caller, scope, method)
    return (call) => {
      const [authorization] = call.metadata.get("authorization")
      const credentials = { authorization: authorization?.toString(), socket: GrpcSessions.socketOf(call) }
      const known = authenticator.known(credentials)
      if (known !== undefined) return exceeds(known.name) ?? permitted(known)
      return exceeds(addressOf(call)) ?? Effect.flatMap(authenticator.verify(credentials), permitted)
    }
  }
})
