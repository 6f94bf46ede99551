import type { SqlError } from "@effect/sql"
import { SqlClient } from "@effect/sql"
import { Effect } from "effect"

/** A sequence that generates the ids of a table, and its state relative to the existing rows. */
export interface Sequence {
  readonly table: string
  /** Name in SQL, quoted when necessary. */
  readonly name: string
  /** Next id of the sequence. */
  readonly next: bigint
  readonly increment: bigint
  /** Last possible id: the limit of the sequence or of the type of the column. */
  readonly end: bigint
  /**
   * Furthest id of a row that the sequence would still generate; undefined when the sequence is not behind. Ids that the
   * sequence steps over, e.g. the even ids of another writer, do not count.
   */
  readonly taken: bigint | undefined
}

/** Number of ids that the sequence is behind; 0 when it is not. */
export const behind = ({ increment, next, taken }: Sequence): bigint =>
  taken === undefined ? 0n : (taken - next) / increment + 1n

/** Number of ids that remain after all rows. */
export const left = ({ end, increment, next, taken }: Sequence): bigint => {
  const from = taken === undefined ? next : taken + increment
  const distance = increment > 0n ? end - from : from - end
  return distance < 0n ? 0n : distance / (increment > 0n ? increment : -increment) + 1n
}

/** The statement for an operator that sets a sequence past the existing rows. */
export const statement = ({ name, taken }: Sequence) => `SELECT setval('${name.replaceAll("'", "''")}', ${taken})`

/** Log text that says how far a sequence is behind. */
export const says = (sequence: Sequence) =>
  `sequence ${sequence.name} is ${behind(sequence)} ids behind the rows of table ${sequence.table}`

/**
 * Reason why the service must not set a sequence forward; undefined when it may. Past a row with an id near the end of the
 * range, less than one percent of the ids would be left.
 */
export const hopeless = (sequence: Sequence): string | undefined => {
  const { end, name, next, table, taken } = sequence
  const ids = left(sequence)
  if (taken === undefined) {
    return ids > 0n ? undefined : `sequence ${name} has no ids left for table ${table}: its next one is ${next}, and ` +
      `the last that fits ${end}; make the column a bigint and raise the MAXVALUE of the sequence`
  }
  const enough = (end < 0n ? -end : end) / 100n
  return ids > enough ? undefined : `${says(sequence)}, and past id ${taken} only ${ids} are left: it is not set ` +
    `forward; give that row another id, or make the column a bigint, or run ${statement(sequence)}`
}

const columnRange = {
  smallint: [-(2n ** 15n), 2n ** 15n - 1n],
  integer: [-(2n ** 31n), 2n ** 31n - 1n],
  bigint: [-(2n ** 63n), 2n ** 63n - 1n]
} as const

interface Declared {
  readonly oid: string
  readonly name: string
  readonly type: string
  readonly start: string
  readonly increment: string
  readonly min: string
  readonly max: string
  readonly cycles: boolean
  readonly readable: boolean
}

/** The sequence of an identity column or of a column default, whatever owns it. No row for other kinds of ids. */
const declared = (table: string, column: string) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) =>
    sql<Declared>`
      SELECT seqrelid::text AS oid, seqrelid::regclass::text AS name, format_type(atttypid, NULL) AS type,
             seqstart AS start, seqincrement AS increment, seqmin AS min, seqmax AS max, seqcycle AS cycles,
             has_sequence_privilege(seqrelid, 'SELECT') AS readable
      FROM pg_attribute
      JOIN pg_sequence ON seqrelid = coalesce(
        (SELECT refobjid FROM pg_attrdef JOIN pg_depend ON classid = 'pg_attrdef'::regclass AND objid = pg_attrdef.oid
         WHERE adrelid = attrelid AND adnum = attnum AND refobjid IN (SELECT seqrelid FROM pg_sequence) LIMIT 1),
        (SELECT objid FROM pg_depend
         WHERE classid = 'pg_class'::regclass AND refclassid = 'pg_class'::regclass AND refobjid = attrelid
           AND refobjsubid = attnum AND deptype = 'i' AND objid IN (SELECT seqrelid FROM pg_sequence) LIMIT 1)
      )
      WHERE attrelid = to_regclass(${table}) AND attname = ${column} AND atttypid::regtype::text = ANY(${
      Object.keys(columnRange)
    }::text[])
    `)

const read = Effect.fnUntraced(function*(table: string, column: string, of: Declared) {
  const sql = yield* SqlClient.SqlClient
  // USAGE alone does not show whether the first id was used; then it counts as unused
  const [row] = yield* of.readable
    ? sql<{ readonly last: string; readonly called: boolean }>`
      SELECT last_value AS last, is_called AS called FROM ${sql.literal(of.name)}
    `
    : sql<{ readonly last: string | null; readonly called: boolean }>`
      SELECT last, last IS NOT NULL AS called FROM pg_sequence_last_value(${of.oid}::oid::regclass) AS last
    `
  const increment = BigInt(of.increment)
  const rises = increment > 0n
  const [lowest, highest] = columnRange[of.type as keyof typeof columnRange]
  const [min, max] = [BigInt(of.min), BigInt(of.max)]
  const last = BigInt(row!.last ?? of.start)
  const after = row!.called ? last + increment : last
  const next = of.cycles && (rises ? after > max : after < min) ? (rises ? min : max) : after
  const end = rises ? (max < highest ? max : highest) : min > lowest ? min : lowest
  const id = sql.literal(`"${column}"`)
  // numeric: the distance of two ids may exceed a bigint
  const met = increment === 1n || increment === -1n
    ? sql`true`
    : sql`(${id} - ${String(next)}::numeric) % ${String(increment)}::numeric = 0`
  const [row2] = (rises ? next > end : next < end) ? [] : yield* sql<{ readonly id: string }>`
    SELECT ${id} AS id FROM ${sql(table)}
    WHERE ${rises ? sql`${id} >= ${next}::bigint` : sql`${id} <= ${next}::bigint`} AND ${met}
    ORDER BY ${id} ${sql.literal(rises ? "DESC" : "ASC")} LIMIT 1
  `
  return { table, name: of.name, next, increment, end, taken: row2 && BigInt(row2.id) } satisfies Sequence
})

/** State of the sequence of a table; undefined when the table does not exist or no sequence generates its ids. */
export const look = (
  table: string,
  column = "id"
): Effect.Effect<Sequence | undefined, SqlError.SqlError, SqlClient.SqlClient> =>
  Effect.flatMap(
    declared(table, column),
    ([of]) => of === undefined ? Effect.succeed(undefined) : read(table, column, of)
  )

/** Longest wait for the lock on the table, in seconds. All other writers wait meanwhile. */
const lockSeconds = 1

/**
 * Sets a sequence that is behind past its rows, in one statement. It never sets the sequence back: the lock on the table
 * waits for running inserts and blocks new ones, so that no id is used between the read and the change.
 */
export const forward = (sequence: Sequence, column = "id") =>
  Effect.flatMap(SqlClient.SqlClient, (sql) => {
    const { increment, name, next, table } = sequence
    const [id, of] = [`"${column}"`, `"${table.replaceAll("\"", "\"\"")}"`]
    const rises = increment > 0n
    return sql.unsafe(`
      DO $forward$ BEGIN
        SET LOCAL lock_timeout = '${lockSeconds}s';
        LOCK TABLE ${of} IN SHARE ROW EXCLUSIVE MODE;
        PERFORM setval('${name.replaceAll("'", "''")}'::regclass, taken.id) FROM (
          SELECT ${id} AS id FROM ${of}
          WHERE ${id} ${rises ? ">=" : "<="} ${next} AND (${id} - ${next}::numeric) % ${increment} = 0
          ORDER BY ${id} ${rises ? "DESC" : "ASC"} LIMIT 1
        ) AS taken
        -- another session may have set it meanwhile
        WHERE coalesce(pg_sequence_last_value('${name.replaceAll("'", "''")}'::regclass) ${
      rises ? "<" : ">"
    } taken.id, true);
      END $forward$
    `)
  })
