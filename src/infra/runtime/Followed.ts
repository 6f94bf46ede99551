import type { Duration, Equivalence } from "effect"
import { Effect } from "effect"

export interface Followed<A, E> {
  /** The content, for the log: `the certificate of gRPC`. */
  readonly what: string
  /** Reads the files. */
  readonly read: Effect.Effect<A, E>
  readonly same: Equivalence.Equivalence<A>
  /** The content that is in use. */
  readonly first: A
  /** Takes new content into use. */
  readonly changed: (content: A) => void
  /** Pause between two reads. */
  readonly every: Duration.DurationInput
}

/**
 * Follows the content of files for ever: reads them at intervals, because a watch of the file system misses files behind links
 * that move, as container platforms replace them. While the files are unusable, the last good content stays in use, and one
 * warning says why. It comes at the second unusable read: files that belong together are replaced one after the other.
 */
export const follow = <A, E extends { readonly message: string }>(
  { changed, every, first, read, same, what }: Followed<A, E>
): Effect.Effect<never> => {
  let current = first
  let failures = 0
  const replaced = Effect.fnUntraced(function*(content: A) {
    failures = 0
    if (same(current, content)) return
    current = content
    changed(content)
    yield* Effect.logInfo(`${what} was replaced`)
  })
  const kept = ({ message }: E) =>
    ++failures === 2 ? Effect.logWarning(`${message}: ${what} stays as it was`) : Effect.void
  return Effect.matchEffect(read, { onFailure: kept, onSuccess: replaced }).pipe(
    Effect.delay(every),
    Effect.forever,
    // servers are made where nothing can be interrupted, and their end must end this too
    Effect.interruptible
  )
}
