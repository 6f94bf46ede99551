import { Array as Arr, Duration, Effect } from "effect"

/** Largest number of items in one step: a step is one transaction. */
const step = 200

/**
 * Runs `work` on groups of items, one after the other, at most `rate` items a second. A group is never divided: the events of an
 * order change together. Returns the results in their order.
 */
export const steps = <A, B, E, R>(
  groups: ReadonlyArray<ReadonlyArray<A>>,
  rate: number,
  work: (items: ReadonlyArray<A>) => Effect.Effect<B, E, R>
): Effect.Effect<ReadonlyArray<B>, E, R> => {
  const size = Math.min(step, rate)
  const parts: Array<Array<A>> = []
  for (const group of groups) {
    const last = parts.at(-1)
    if (last !== undefined && last.length + group.length <= size) last.push(...group)
    else parts.push([...group])
  }
  return Effect.forEach(parts, (items, i) =>
    i === 0
      ? work(items)
      : Effect.zipRight(Effect.sleep(Duration.seconds(parts[i - 1]!.length / rate)), work(items)))
}

/** Each item as a group of its own. */
export const single = <A>(items: ReadonlyArray<A>): ReadonlyArray<ReadonlyArray<A>> => items.map(Arr.of)
