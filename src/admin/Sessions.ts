import type { Redacted } from "effect"
import { Duration, Effect } from "effect"
import { createHash, randomBytes } from "node:crypto"

/** The token with which a person signed in, and the name for a token that has none. */
export interface SignedIn {
  readonly token: Redacted.Redacted
  readonly name: string | undefined
}

interface Entry extends SignedIn {
  readonly began: number
  used: number
}

export const limits = {
  /** A session ends after this time without a request. */
  idle: Duration.minutes(30),
  /** A session ends this long after the sign-in. */
  whole: Duration.hours(12),
  /** Most sessions; a new one ends the oldest. */
  most: 1_000
} as const

const hashOf = (id: string) => createHash("sha256").update(id).digest("base64url")

/**
 * The sessions of this process, in memory: a restart ends them all. They keep the token, so that a token that is revoked or gets
 * other scopes counts at the next request. The map has hashes of the ids: a comparison of hashes tells nothing of an id.
 */
export const make = Effect.map(Effect.clock, (clock) => {
  const sessions = new Map<string, Entry>()
  const now = () => clock.unsafeCurrentTimeMillis()
  const endOf = ({ began, used }: Entry) =>
    Math.min(began + Duration.toMillis(limits.whole), used + Duration.toMillis(limits.idle))

  /** Begins a session. Returns its id, 256 random bits. */
  const begin = (who: SignedIn) => {
    if (sessions.size >= limits.most) {
      for (const [key, entry] of sessions) if (endOf(entry) <= now()) sessions.delete(key)
      if (sessions.size >= limits.most) sessions.delete(sessions.keys().next().value!)
    }
    const id = randomBytes(32).toString("base64url")
    sessions.set(hashOf(id), { ...who, began: now(), used: now() })
    return id
  }

  /** The session of an id; undefined when there is none or it is over. */
  const look = (id: string): Entry | undefined => {
    const key = hashOf(id)
    const entry = sessions.get(key)
    if (entry === undefined || endOf(entry) > now()) return entry
    sessions.delete(key)
    return undefined
  }

  /** The same, and it counts as used now. */
  const find = (id: string) => {
    const entry = look(id)
    if (entry === undefined) return undefined
    entry.used = now()
    return { ...entry, key: hashOf(id), endsAt: new Date(endOf(entry)) }
  }

  const end = (id: string) => void sessions.delete(hashOf(id))

  return { begin, look, find, end } as const
})

export type Sessions = Effect.Effect.Success<typeof make>
