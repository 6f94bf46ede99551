import { Effect, Layer } from "effect"
import * as Postgres from "../infra/Postgres.js"
import type { Rights } from "../infra/PostgresRights.js"
import * as PostgresRights from "../infra/PostgresRights.js"
import { Readiness } from "../infra/Readiness.js"

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
    Effect.map(Effect.context<Postgres.Database>(), (database) =>
      Readiness.Default({
        required: ["postgres", ...required],
        optional,
        probes: {
          postgres: Effect.zipRight(Postgres.writable, PostgresRights.check(rights)).pipe(
            Effect.provide(database),
            Effect.withTracerEnabled(false)
          )
        }
      }))
  )
