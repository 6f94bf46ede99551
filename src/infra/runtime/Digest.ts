import { Duration, Effect } from "effect"
import * as Signal from "./Signal.js"

/** What a line of a digest says: the number of occurrences, and the fields of the first few. */
export interface Digested<A> {
  readonly count: number
  readonly examples: ReadonlyArray<A>
}

/** Fields of how many occurrences a line has. */
const maxExamples = 3
/** A line waits so long for more of the same burst. */
const gather = Duration.seconds(5)
/** Shortest time between two lines. */
const period = Duration.minutes(1)

/**
 * A log of things that may happen thousands of times: one line for all occurrences of a burst, and at most one a minute. Each
 * occurrence is in the count of exactly one line, also at the end of the scope. The returned function adds an occurrence.
 */
export const make = <A>(log: (digested: Digested<A>) => Effect.Effect<void>) =>
  Effect.gen(function*() {
    const added = Signal.make()
    let count = 0
    let examples: Array<A> = []
    const flush = Effect.suspend(() => {
      if (count === 0) return Effect.void
      const digested = { count, examples }
      count = 0
      examples = []
      return log(digested)
    })
    yield* added.wait.pipe(
      Effect.zipRight(Effect.sleep(gather)),
      Effect.zipRight(flush),
      Effect.zipRight(Effect.sleep(Duration.subtract(period, gather))),
      Effect.forever,
      Effect.forkScoped
    )
    yield* Effect.addFinalizer(() => flush)
    return (example: A) => {
      count++
      if (examples.length < maxExamples) examples.push(example)
      if (count === 1) added.notify()
    }
  })
