import { Array as Arr, Option, Record } from "effect"
import type { ConfigOf } from "../Config.js"
import type { Rights } from "../infra/postgres/PostgresRights.js"
import type { Role } from "../ops/Parts.js"

/** The permissions that each part needs, including the leases that it writes for the relay of its process. */
const rights: Readonly<Record<Role, Rights>> = {
  consumer: { payment: ["SELECT", "INSERT"], event: ["SELECT", "INSERT", "UPDATE"], outbox_topic: ["SELECT"] },
  relay: {
    event: ["SELECT", "UPDATE", "DELETE"],
    outbox_shard: ["SELECT", "UPDATE"],
    outbox_relay: ["SELECT", "INSERT", "UPDATE", "DELETE"],
    outbox_topic: ["SELECT", "INSERT", "UPDATE"]
  },
  grpc: { payment: ["SELECT", "UPDATE"], event: ["SELECT", "INSERT", "UPDATE"], outbox_topic: ["SELECT"] },
  // a role of PostgreSQL that may do less can look: each change says what it lacks
  console: { payment: ["SELECT"], event: ["SELECT"], operation: ["SELECT"] }
}

/** The union of the permissions of these parts. The relay also settles payments when they expire. */
export const rightsOf = (config: ConfigOf<"paymentExpiry">, running: ReadonlyArray<Role>): Rights =>
  [
    ...running.map((part) => rights[part]),
    ...(running.includes("relay") && Option.isSome(config.paymentExpiry) ? [rights.grpc] : [])
  ].reduce<Rights>(
    (all, more) => Record.union(all, more, (some, others) => Arr.union(some, others)),
    {}
  )
