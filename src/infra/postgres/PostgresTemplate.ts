import type { SqlClient, Statement } from "@effect/sql"

class Blank {
  constructor(readonly name: string) {}
}

/** Placeholders for the values of a statement while it is compiled. */
export type Blanks<Values> = { readonly [Name in keyof Values]: unknown }

/**
 * A statement of which only the values change, compiled once, at its first use. For small, frequent statements: otherwise
 * each use builds, compiles and hashes the text to find the prepared statement.
 */
export const make = <Row extends object, Values extends Readonly<Record<string, unknown>>>(
  sql: SqlClient.SqlClient,
  write: (blanks: Blanks<Values>) => Statement.Statement<Row>
) => {
  const compile = () => {
    const blanks = new Proxy({}, { get: (_, name) => new Blank(String(name)) }) as Blanks<Values>
    return write(blanks).compile()
  }
  let compiled: ReturnType<typeof compile> | undefined
  return (values: Values): Statement.Statement<Row> => {
    const [text, places] = compiled ??= compile()
    return sql.unsafe(text, places.map((place) => place instanceof Blank ? values[place.name] : place))
  }
}
