/** What a caller may do: read payments, and settle them. */
export const scopes = ["payments:read", "payments:settle"] as const
export type Scope = (typeof scopes)[number]
