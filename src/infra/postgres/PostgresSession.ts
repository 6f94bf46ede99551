/**
 * Settings of every session. They override those of the role, the database and the server, so that the results of statements
 * and the durability of commits do not depend on the installation.
 *
 * Not among them: `default_transaction_read_only`, by which providers protect a full disk, and the role of the session
 * (`ALTER ROLE … SET role`), which affects rights and no results.
 */
export const settings: Readonly<Record<string, string>> = {
  // Every statement finds its rows by an index. The statistics of a queue are always old: a table that was empty a moment
  // ago makes a full scan and sort look cheap (measured: 190 ms instead of 12 ms for a claim of 500 among 100,000).
  // JIT compilation of short statements costs more than it saves, and so does planning for each set of values (measured:
  // 515 µs instead of 253 µs a settlement): a connection plans each statement once. So every plan must suit all values: the
  // planner assumes ten elements for an array and a tenth of the rows for a LIMIT. VACUUM or ANALYZE of a table renews its
  // plans, and the end of the connection after a minute does so at the latest.
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
  // each statement sees what is committed at its start, and waits for row locks
  default_transaction_isolation: "read committed",
  default_transaction_deferrable: "off",
  // no server limits: this process has its own and cancels late statements
  statement_timeout: "0",
  lock_timeout: "0",
  transaction_timeout: "0",
  idle_in_transaction_session_timeout: "0",
  idle_session_timeout: "0",
  exit_on_error: "off",
  // text formats of values
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
  // rows hidden by a policy cause an error instead of an empty result
  row_security: "off"
}

/** Settings that depend on their current value: SQL expressions. */
const computed: Readonly<Record<string, string>> = {
  // an acknowledged commit is on disk; the stricter `remote_apply` stays
  synchronous_commit:
    "CASE current_setting('synchronous_commit') WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END",
  // keeps the operator's schema, unless it is a system schema or does not exist
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

/** Facts of a new session. */
export interface Facts {
  /** Process of the server. Behind a pooler it differs from the one in the start-up message. */
  readonly pid: number
  readonly role: string
  /** True for a standby. */
  readonly standby: boolean
  /** True when transactions are read-only, which they always are on a standby. */
  readonly readonly: boolean
}

/**
 * The first statements of a session, in one round trip: they set the settings and read the facts. Settings in `options` of
 * the connection URL are the operator's and stay.
 *
 * They run after the connection is made, because poolers refuse `options` in the start-up packet. `statement_timeout` comes
 * first: the server's may be too short for the rest. Settings that the server's version lacks are skipped.
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
