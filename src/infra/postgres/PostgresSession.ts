/**
 * What every session has, whatever the role, the database or the server is set to: the answers of the service, and the
 * durability of what it has acknowledged, do not depend on them.
 *
 * `default_transaction_read_only` is not among them: it is how providers guard a disk that is full. A role that is set for
 * the session (`ALTER ROLE … SET role`) is kept, too: it decides on rights, not on answers.
 */
const settings: Readonly<Record<string, string>> = {
  // Every statement finds its rows by an index, and in a queue the statistics are always old: a table that was empty a
  // moment ago makes a scan and a sort of everything look cheap (measured: 190 ms instead of 12 for a claim of 500 among
  // 100,000). Compiling such short statements costs more than running them, and so does planning them each time for their
  // values (measured: 515 µs instead of 253 for a settlement): a connection plans each once. So no statement may be right
  // for some values only: without them every array counts as one of ten, and every LIMIT as a tenth of what there is. A
  // plan is made anew after each VACUUM or ANALYZE of its tables, and where none comes with the connection, after a minute.
  enable_seqscan: "off",
  enable_bitmapscan: "off",
  enable_indexscan: "on",
  enable_indexonlyscan: "on",
  enable_nestloop: "on",
  enable_hashjoin: "on",
  enable_mergejoin: "on",
  enable_hashagg: "on",
  enable_sort: "on",
  enable_material: "on",
  jit: "off",
  plan_cache_mode: "force_generic_plan",
  work_mem: "4MB",
  // each statement decides by what is committed when it begins, and waits for those who hold its rows
  default_transaction_isolation: "read committed",
  default_transaction_deferrable: "off",
  // the limits are this process's own: it cancels what takes longer
  statement_timeout: "0",
  lock_timeout: "0",
  transaction_timeout: "0",
  idle_in_transaction_session_timeout: "0",
  idle_session_timeout: "0",
  exit_on_error: "off",
  // what is written as text and read as text
  client_encoding: "UTF8",
  DateStyle: "ISO, MDY",
  IntervalStyle: "postgres",
  TimeZone: "UTC",
  bytea_output: "hex",
  extra_float_digits: "1",
  standard_conforming_strings: "on",
  backslash_quote: "safe_encoding",
  escape_string_warning: "on",
  array_nulls: "on",
  transform_null_equals: "off",
  client_min_messages: "warning",
  // rows that a policy hides are an error, and not an empty answer
  row_security: "off"
}

/** What depends on the value that is there. */
const computed: Readonly<Record<string, string>> = {
  // what is acknowledged is on disk; a server that waits for its standbys to have applied it goes on to do so
  synchronous_commit:
    "CASE current_setting('synchronous_commit') WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END",
  // another schema may be chosen; one that is none of a user's leads nowhere
  search_path: `CASE WHEN coalesce(current_schema(), 'pg_catalog') ~ '^(pg_|information_schema$)' THEN 'public'
    ELSE current_setting('search_path') END`
}

const quote = (text: string) => `'${text.replaceAll("'", "''")}'`

/** Names of settings in `-c name=value` and `--name=value`. */
const namesIn = (options: string) =>
  Array.from(
    options.matchAll(/(?:^|\s)(?:-c\s*|--)([\w.-]+)\s*=/g),
    ([, name]) => name!.replaceAll("-", "_").toLowerCase()
  )

/** What a new session says of itself. */
export interface Facts {
  /** Of the process that serves it. Behind a pooler it is not the one that the start of the connection has named. */
  readonly pid: number
  readonly role: string
  /** Whether it is a standby. */
  readonly standby: boolean
  /** Whether its transactions are read-only: always so on a standby. */
  readonly readonly: boolean
}

/**
 * The statements with which a session begins: one round trip. What the connection URL sets in `options` is the operator's
 * own word, and is left.
 *
 * After connecting and not in the start-up packet, for poolers take no `options` there. The time-out goes first: it may be
 * too short for the rest. Settings that a version does not have are left out.
 */
export const opening = (options: string | undefined) => {
  const given = new Set(namesIn(options ?? ""))
  const rows = [
    ...Object.entries(settings).map(([name, value]) => [name, quote(value)] as const),
    ...Object.entries(computed)
  ].filter(([name]) => !given.has(name.toLowerCase()))
  return `
    ${given.has("statement_timeout") ? "" : "SET statement_timeout = 0;"}
    SELECT set_config(name, value, false)
    FROM (VALUES ${rows.map(([name, value]) => `(${quote(name)}, ${value})`).join(", ")}) AS ours (name, value)
    WHERE current_setting(name, true) IS NOT NULL;
    SELECT pg_backend_pid() AS pid, current_user AS role, pg_is_in_recovery() AS standby,
           current_setting('transaction_read_only') = 'on' AS readonly
  `
}
