/** Why an event of the outbox is not `DONE`. */
export const states = ["dead", "due", "leased", "backing-off", "behind"] as const
export type State = (typeof states)[number]
