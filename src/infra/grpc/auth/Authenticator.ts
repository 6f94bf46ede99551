import type { Effect } from "effect"
import { Data } from "effect"
import type { Socket } from "node:net"
import type { Caller } from "../../auth/Caller.js"
import type { Refusal } from "../GrpcRefusal.js"

/** A call that is refused before its handler runs. The message never has a part of a credential. */
export class Refused extends Data.TaggedError("Refused")<{ readonly refusal: Refusal }> {
  override get message() {
    return this.refusal.details
  }
}

/** The credentials of a call. */
export interface Credentials {
  /** Value of the metadata `authorization`. */
  readonly authorization: string | undefined
  /** The connection: a `TLSSocket` with TLS. */
  readonly socket: Socket | undefined
}

/** Verifies the credentials of calls. */
export interface Authenticator {
  /** The caller with credentials that were verified before and are still valid; undefined for others. */
  readonly known: (credentials: Credentials) => Caller | undefined
  /** Verifies credentials that are not known. */
  readonly verify: (credentials: Credentials) => Effect.Effect<Caller, Refused>
}

export const noCredential = (details: string) =>
  new Refused({ refusal: { code: "UNAUTHENTICATED", reason: "NO_CREDENTIAL", details } })

export const badCredential = (details: string) =>
  new Refused({ refusal: { code: "UNAUTHENTICATED", reason: "BAD_CREDENTIAL", details } })
