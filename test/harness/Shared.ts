import { inject } from "vitest"

export { freshDatabase } from "./PgTest.js"

/** The servers of this run of tests. */
export const servers = () => ({ redisUrl: inject("redisUrl"), kafkaBrokers: inject("kafkaBrokers") })
