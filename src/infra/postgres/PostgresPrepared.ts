import * as Pg from "pg"

/** What a statement is called, on every connection of the process: the same name is always the same text. */
const names = new Map<string, string>()
let made = 0

const nameOf = (text: string) => {
  const known = names.get(text)
  if (known !== undefined) return known
  const name = `payments_${++made}`
  names.set(text, name)
  return name
}

/** From now on it has another name, so that no connection takes what it prepared before. */
const forget = (text: string) => names.delete(text)

/**
 * What was prepared is of no use any more: a migration changed the columns of its result, or the server has dropped it.
 * The next attempt prepares it again. SQLSTATE 0A000 alone is any missing feature, hence the name of the function.
 */
export const isOutdated = (error: unknown): boolean =>
  error instanceof Pg.DatabaseError &&
  (error.code === "26000" || (error.code === "0A000" && error.routine === "RevalidateCachedQuery"))

type Callback = (error: Error | null | undefined, result: unknown) => void

/**
 * A connection that prepares each statement with parameters at its first use, and then sends only name and values.
 *
 * `@effect/sql-pg` names no statement, and the server would parse and analyze each anew. Without parameters it stays a
 * simple query, which may hold several statements.
 */
export class PreparingClient extends Pg.Client {
  override query(...args: ReadonlyArray<any>): any {
    const [text, values, callback] = args as readonly [unknown, unknown, Callback]
    if (typeof text !== "string" || !Array.isArray(values) || values.length === 0) {
      return super.query(...(args as [any]))
    }
    // made here: of an object with a name the client first makes a copy, property by property (measured: 9 µs)
    const query = new Pg.Query(text, values, (error: Error | null | undefined, result: unknown) => {
      if (isOutdated(error)) forget(text)
      callback(error, result)
    })
    return super.query(Object.assign(query, { name: nameOf(text) }))
  }
}
