/**
 * What a caller may do: read payments, settle them, look at what waits and at its repairs, repair it, and write inventory records
 * on a local stack.
 */
export const scopes = [
  "payments:read",
  "payments:settle",
  "operations:read",
  "operations:change",
  "inventory:write"
] as const
export type Scope = (typeof scopes)[number]
