import { SqlClient } from "@effect/sql"
import { Effect, Layer } from "effect"
import * as Postgres from "../infra/Postgres.js"
import { Readiness } from "../infra/Readiness.js"
import { Sequences } from "../payments/Sequences.js"

/** What the services of this process depend on. */
export interface ReadinessOptions {
  /** Without these, or without `postgres`, the process is not ready. */
  readonly required: ReadonlyArray<string>
  /** These are shown only. */
  readonly optional: ReadonlyArray<string>
}

/** Readiness with `postgres`, which is asked; the others report themselves. */
export const layer = ({ optional, required }: ReadinessOptions) =>
  Layer.unwrapEffect(
    Effect.map(Effect.all([SqlClient.SqlClient, Sequences]), ([sql, sequences]) =>
      Readiness.Default({
        required: ["postgres", ...required],
        optional,
        probes: {
          postgres: sql`SELECT 1`.pipe(
            Postgres.run("2 seconds"),
            Effect.zipRight(sequences.health),
            Effect.withTracerEnabled(false)
          )
        }
      }))
  ).pipe(Layer.provide(Sequences.Default))
