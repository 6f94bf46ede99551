import * as Pg from "pg"

/** Names of prepared statements by text, for all connections of the process. One name always means the same text. */
const names = new Map<string, string>()
let made = 0

const nameOf = (text: string) => {
  const known = names.get(text)
  if (known !== undefined) return known
  const name = `payments_${++made}`
  names.set(text, name)
  return name
}

/** Drops the name of a statement: the next use gets a new name, and so every connection prepares it again. */
const forget = (text: string) => names.delete(text)

/**
 * True when a prepared statement is unusable: a migration changed its result columns, or the server has dropped it. The next
 * attempt prepares it again. SQLSTATE 0A000 alone means any missing feature, hence the check of the server's routine.
 */
export const isOutdated = (error: unknown): boolean =>
  error instanceof Pg.DatabaseError &&
  (error.code === "26000" || (error.code === "0A000" && error.routine === "RevalidateCachedQuery"))

type Callback = (error: Error | null | undefined, result: unknown) => void

/**
 * A connection that prepares each statement with parameters at its first use and then sends only its name and values.
 *
 * `@effect/sql-pg` names no statement, so the server would parse and plan each use. A text without parameters stays a simple
 * query, which may contain several statements.
 */
export class PreparingClient extends Pg.Client {
  override query(...args: ReadonlyArray<any>): any {
    const [text, values, callback] = args as readonly [unknown, unknown, Callback]
    if (typeof text !== "string" || !Array.isArray(values) || values.length === 0) {
      return super.query(...(args as [any]))
    }
    // a ready `Query`, because pg copies a plain config object property by property (measured: 9 µs)
    const query = new Pg.Query(text, values, (error: Error | null | undefined, result: unknown) => {
      if (isOutdated(error)) forget(text)
      callback(error, result)
    })
    return super.query(Object.assign(query, { name: nameOf(text) }))
  }
}
