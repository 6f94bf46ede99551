import type { Duration } from "effect"
import { Clock, Effect, Exit } from "effect"

/** What somebody who behaves has seen meanwhile. */
export interface Seen {
  readonly answered: number
  readonly refused: number
  readonly slowestMillis: number
}

/** Looks again and again while `use` runs. Answers what it gave, and how the looks went. */
export const meanwhile = <A, E, R>(look: Effect.Effect<unknown>, pause: Duration.DurationInput) =>
  Effect.fnUntraced(function*(use: Effect.Effect<A, E, R>) {
    const seen = { answered: 0, refused: 0, slowestMillis: 0 }
    let over = false
    const looking = yield* Effect.gen(function*() {
      const began = yield* Clock.currentTimeMillis
      const exit = yield* Effect.exit(look)
      if (Exit.isSuccess(exit)) seen.answered++
      else seen.refused++
      seen.slowestMillis = Math.max(seen.slowestMillis, (yield* Clock.currentTimeMillis) - began)
      yield* Effect.sleep(pause)
    }).pipe(Effect.repeat({ while: () => !over }), Effect.fork)
    const result = yield* use
    over = true
    yield* looking.await
    return [result, seen as Seen] as const
  })

/** Does this for each, so many at a time. */
export const each = <A, B>(all: ReadonlyArray<A>, atATime: number, one: (a: A, i: number) => Promise<B>) =>
  Effect.forEach(all, (a, i) => Effect.promise(() => one(a, i)), { concurrency: atATime })

/** How often each answer came, the most frequent first. */
export const tally = (answers: ReadonlyArray<string>): string => {
  const counts = new Map<string, number>()
  for (const answer of answers) counts.set(answer, (counts.get(answer) ?? 0) + 1)
  return [...counts].sort(([, a], [, b]) => b - a).map(([answer, n]) => `${answer} ${n}`).join(", ")
}
