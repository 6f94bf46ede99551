import type { Clock } from "effect"
import { Effect } from "effect"
import type { Caller } from "../../auth/Caller.js"
import { hashOf } from "../../auth/TokenFile.js"
import type { Authenticator, Refused } from "./Authenticator.js"
import { noCredential } from "./Authenticator.js"

/** The caller of a verified token. */
export interface Verified {
  readonly caller: Caller
  /** The token is verified again from this time on, in milliseconds of the epoch. */
  readonly until: number
}

/** Most verified tokens that are remembered: a few hundred bytes each. */
const most = 10_000

/** A token as RFC 6750 has it. */
const bearer = /^Bearer +([\w\-.~+/]+=*) *$/i

/**
 * Takes callers by the token in `authorization: Bearer …`. Verified tokens are remembered by their hash, so that the next call
 * costs one hash. `forget` forgets them all.
 */
export const make = (clock: Clock.Clock, verify: (token: string) => Effect.Effect<Verified, Refused>) => {
  const remembered = new Map<string, Verified>()
  let generation = 0
  const tokenOf = (authorization: string | undefined) =>
    authorization === undefined ? undefined : bearer.exec(authorization)?.[1]
  const authenticator: Authenticator = {
    known: ({ authorization }) => {
      const token = tokenOf(authorization)
      if (token === undefined) return undefined
      const found = remembered.get(hashOf(token))
      return found !== undefined && found.until > clock.unsafeCurrentTimeMillis() ? found.caller : undefined
    },
    verify: ({ authorization }) =>
      Effect.suspend(() => {
        const token = tokenOf(authorization)
        if (token === undefined) return noCredential("the call has no metadata authorization: Bearer <token>")
        const before = generation
        return Effect.map(verify(token), (verified) => {
          // a token that was revoked during its check is not remembered
          if (before === generation) {
            if (remembered.size >= most) remembered.clear()
            remembered.set(hashOf(token), verified)
          }
          return verified.caller
        })
      })
  }
  return {
    authenticator,
    forget: () => {
      generation++
      remembered.clear()
    }
  }
}
