/** What a caller may do: read payments, settle them, look at what waits and at its repairs, and repair it. */
export const scopes = ["payments:read", "payments:settle", "operations:read", "operations:change"] as const
export type Scope = (typeof scopes)[number]
