/**
 * Values (none is undefined) by a number, as in a `Map`, for what comes and goes all the time.
 *
 * A `Map` or `Set` of V8 moves to a new table when the old one is full of what was deleted, and the old table points to the
 * new one, for whoever iterates it. Once a table is old, which a full collection makes of all that it finds, each of its
 * successors is held by the one before, with all that was in it at its move: nothing that passes through is collected
 * while it is young. The next full collection frees all that and begins the same again. The properties of an object have
 * no such pointers.
 */
export class Numbered<A extends {}> implements Map<number, A> {
  readonly [Symbol.toStringTag] = "Numbered"
  private readonly byNumber: Record<number, A> = Object.create(null) as Record<number, A>
  private count = 0

  get size() {
    return this.count
  }

  get(key: number): A | undefined {
    return this.byNumber[key]
  }

  has(key: number) {
    return this.byNumber[key] !== undefined
  }

  set(key: number, value: A) {
    if (!this.has(key)) this.count++
    this.byNumber[key] = value
    return this
  }

  delete(key: number) {
    if (!this.has(key)) return false
    this.count--
    return delete this.byNumber[key]
  }

  clear() {
    for (const key of this.keys()) this.delete(key)
  }

  forEach(each: (value: A, key: number, map: Map<number, A>) => void) {
    for (const [key, value] of this) each(value, key, this)
  }

  /** Those of now: what comes or goes meanwhile changes nothing. */
  entries() {
    return Object.entries(this.byNumber).map(([key, value]): [number, A] => [Number(key), value]).values()
  }

  keys() {
    return Object.keys(this.byNumber).map(Number).values()
  }

  values() {
    return Object.values(this.byNumber).values()
  }

  [Symbol.iterator]() {
    return this.entries()
  }
}
