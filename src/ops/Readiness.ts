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
  /** These are shown only. */
  readonly optional: ReadonlyArray<string>
  /** What the role of this process must be allowed. */
  readonly rights: Rights
}

/**
 * Readiness with `postgres`, which is asked; the others report themselves. It is there when the database takes changes, and
 * the role may make those that the services make.
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
