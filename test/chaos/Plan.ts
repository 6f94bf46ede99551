import { Chunk, Effect, Random } from "effect"
import type { Dose, Kind } from "./Faults.js"

/** A fault to come, and how long the system has its peace before it. */
export interface Planned extends Dose {
  readonly kind: Kind
  readonly pauseMillis: number
}

/** Answers one fault after the other, the same for the same seed: these kinds in some order, then in another. */
export const make = (seed: number, kinds: ReadonlyArray<Kind>): Effect.Effect<Planned> => {
  const random = Random.make(`chaos ${seed}`)
  let deck: Array<Kind> = []
  return Effect.gen(function*() {
    if (deck.length === 0) deck = Chunk.toArray(yield* random.shuffle(kinds))
    return {
      kind: deck.pop()!,
      seconds: yield* random.nextIntBetween(2, 6),
      pick: yield* random.nextIntBetween(0, 1_000),
      pauseMillis: yield* random.nextIntBetween(300, 1_200)
    }
  })
}
