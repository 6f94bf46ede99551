import { Context, Effect, Layer, Option, Record } from "effect"
import * as Postgres from "../infra/postgres/Postgres.js"
import type { Rights } from "../infra/postgres/PostgresRights.js"
import * as PostgresRights from "../infra/postgres/PostgresRights.js"
import type { HealthOptions } from "../infra/runtime/Health.js"
import { Health } from "../infra/runtime/Health.js"
import type { PartOptions } from "../infra/runtime/HealthPart.js"
import { Sequences } from "../payments/Sequences.js"

/** The roles that do the work of the service. */
export const workers = ["consumer", "relay", "grpc"] as const
/**
 * The roles of a process: `/readyz/<role>` is the state of what one of them needs. Role `console` serves the console alone; a
 * process with another role serves it too, where a token is set.
 */
export const roles = [...workers, "console"] as const
export type Role = (typeof roles)[number]

const kafka = ["kafka", "topic", "permission"] as const

/**
 * Every part of the service, the roles that need it, and the reasons for which it may wait. A part without roles belongs to each
 * process. The gRPC server needs no broker: paying goes on without one, and the outbox keeps the events. It starts with the keys of
 * the issuer of tokens, and goes on with them while the issuer is away.
 */
const parts = {
  "postgres": { roles, reasons: ["postgres", "operator"] },
  "migrations": { roles, reasons: ["postgres", "migrations"] },
  "inventory-topics": { roles: ["consumer"], reasons: kafka },
  "inventory-consumer": {
    roles: ["consumer"],
    reasons: [...kafka, "postgres", "dead_letter_topic", "group", "transaction", "operator", "restart", "no_progress"]
  },
  "consumer-lag": { roles: ["consumer", "relay"], required: false, reasons: kafka },
  "redis": { roles: ["consumer"], required: false, reasons: ["redis"] },
  "payment-topic": { roles: ["relay"], reasons: kafka },
  "outbox-relay": { roles: ["relay"], reasons: [...kafka, "postgres", "operator", "restart", "no_progress"] },
  "outbox-listener": { roles: ["relay"], required: false, reasons: ["postgres"] },
  "outbox-pruner": { roles: ["relay"], required: false, reasons: ["postgres", "restart"] },
  "grpc-server": { roles: ["grpc"], reasons: ["issuer", "restart"] },
  "grpc-keys": { roles: ["grpc"], required: false, reasons: ["issuer"] },
  "http-server": { roles: [], required: false, reasons: ["restart"] },
  "database-clock": { roles: [], required: false, reasons: ["postgres"] }
} as const satisfies Readonly<Record<string, PartOptions>>

export type PartName = keyof typeof parts

/** The part of this name. */
export const part = (name: PartName) => Effect.map(Health, (health) => health.part(name))

export interface PartsOptions {
  /** The roles of this process. */
  readonly running: ReadonlyArray<Role>
  /** Whether the gRPC server verifies tokens by the keys of an issuer. Default: false. */
  readonly verifiesByKeys?: boolean
  /** Permissions that the database role of this process needs. */
  readonly rights: Rights
  /** Addresses of the servers, for the log. */
  readonly where?: HealthOptions["where"]
}

/** The parts of a process with these roles. */
const of = ({ running, verifiesByKeys = false }: PartsOptions): Readonly<Record<string, PartOptions>> =>
  Record.filterMap(parts as Readonly<Record<string, PartOptions>>, (part, name) => {
    const own = running.filter((role) => part.roles.includes(role))
    const isNeeded = (part.roles.length === 0 || own.length > 0) && (name !== "grpc-keys" || verifiesByKeys)
    return isNeeded ? Option.some({ ...part, roles: own }) : Option.none()
  })

/**
 * The health of a process with these roles. `postgres` is ok when the database accepts changes (a standby does not), the role of
 * the database has its permissions, and the sequences are ahead of their rows. The other parts report where they work.
 */
export const layer = (options: PartsOptions) =>
  Layer.unwrapEffect(
    Effect.map(Effect.all([Effect.context<Postgres.Database>(), Sequences]), ([database, sequences]) => {
      // before the migrations there are no tables to have a permission on
      let migrated = () => false
      const probe = Postgres.writable.pipe(
        Effect.zipRight(Effect.suspend(() => migrated() ? PostgresRights.check(options.rights) : Effect.void)),
        Effect.provide(database),
        Effect.zipRight(sequences.health),
        Effect.withTracerEnabled(false)
      )
      return Health.Default({
        parts: Record.map(of(options), (part, name) => name === "postgres" ? { ...part, probe } : part),
        where: options.where ?? {}
      }).pipe(Layer.tap((context) =>
        Effect.sync(() => {
          migrated = Context.get(context, Health).part("migrations").hasWorked
        })
      ))
    })
  ).pipe(Layer.provide(Sequences.Default))
