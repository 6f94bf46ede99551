/**
 * A `Map` with number keys for short-lived entries. Values are never undefined.
 *
 * V8 rehashes a `Map` or `Set` into a new table when the old one is full of deleted entries, and the old table points to
 * the new one for open iterators. Once a table is in the old generation, it keeps every later table and its entries alive until
 * the next full collection. Object properties have no such pointers.
 */
export class NumberMap<A extends {}> implements Map<number, A> {
  readonly [Symbol.toStringTag] = "NumberMap"
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

  /** A snapshot: later changes do not show. */
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
