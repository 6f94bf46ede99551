import { Effect, Layer } from "effect"
import * as Postgres from "../infra/postgres/Postgres.js"
import type { Rights } from "../infra/postgres/PostgresRights.js"
import * as PostgresRights from "../infra/postgres/PostgresRights.js"
import { Readiness } from "../infra/runtime/Readiness.js"
import { Sequences } from "../payments/Sequences.js"

/** What the services of this process depend on. */
export interface ReadinessOptions {
  /** Without these, or without `postgres`, the process is not ready. */
  readonly required: ReadonlyArray<string>
  /** Shown, but not required. */
  readonly optional: ReadonlyArray<string>
  /** Permissions that the database role of this process needs. */
  readonly rights: Rights
}

/**
 * Readiness that probes `postgres`; the other dependencies report their own state. `postgres` is ok when the database accepts
 * changes, the role has its permissions and the sequences are ahead of their rows.
 */
export const layer = ({ optional, required, rights }: ReadinessOptions) =>
  Layer.unwrapEffect(
    Effect.map(Effect.all([Effect.context<Postgres.Database>(), Sequences]), ([database, sequences]) =>
      Readiness.Default({
        required: ["postgres", ...required],
        optional,
        probes: {
          postgres: Postgres.writable.pipe(
            Effect.zipRight(PostgresRights.check(rights)),
            Effect.provide(database),
            Effect.zipRight(sequences.health),
            Effect.withTracerEnabled(false)
          )
        }
      }))
  ).pipe(Layer.provide(Sequences.Default))
