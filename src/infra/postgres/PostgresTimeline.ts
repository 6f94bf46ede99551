/**
 * A place in the history of a cluster. A promotion of a standby begins a timeline with the next number; an old primary that comes back
 * stays on its own. Source: https://www.postgresql.org/docs/current/continuous-archiving.html#BACKUP-TIMELINES
 */
export interface Timeline {
  /** Identifies a cluster with all its standbys. A text, because it is a 64-bit number. */
  readonly system: string
  readonly number: number
}

/** Reads the timeline of a primary. Fails on a standby, and where a provider hides the log. */
export const query = `
  SELECT system_identifier::text AS system,
         ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::bigint::float8 AS number
  FROM pg_control_system()
`

/** The highest timeline that this process has met, by cluster. */
const highest = new Map<string, number>()

/** Compares the timeline of a connection with those that this process has met, and remembers it. */
export const meet = ({ number, system }: Timeline): "first" | "same" | "newer" | "old" => {
  const known = highest.get(system)
  if (known !== undefined && number < known) return "old"
  highest.set(system, number)
  return known === undefined ? "first" : number > known ? "newer" : "same"
}

/** True when a primary of a later timeline is known. */
export const isOld = ({ number, system }: Timeline) => number < (highest.get(system) ?? 0)

/** A server that accepts changes, and whose successor is known. */
export class OldPrimary extends Error {
  override readonly name = "OldPrimary"

  constructor({ number, system }: Timeline) {
    super(
      `is an old primary: it is on timeline ${number}, and this process knows a primary on timeline ${
        highest.get(system)
      }. ` +
        "Stop the old server. If it is the right one, stop the other, and restart this process"
    )
  }
}
