import { Effect, Exit, Runtime, Schedule } from "effect"
import * as Pg from "pg"
import type { Part } from "../runtime/Health.js"
import { problemOf } from "../runtime/Problem.js"
import { DatabaseUnavailable } from "./Postgres.js"
import { ServiceClient } from "./PostgresConnection.js"
import { PostgresPool } from "./PostgresStatement.js"

/** A connection to the server of the pool, with its password and certificates. */
const connect = Effect.flatMap(PostgresPool, ({ service }) =>
  Effect.acquireRelease(
    Effect.tryPromise({
      try: async () => {
        const client = new ServiceClient({
          service: { ...service, applicationName: "payments-listen", connectTimeoutMillis: 3_000 }
        })
        // `end` follows an error; without a listener the error would end the process
        client.on("error", () => {})
        await client.connect()
        return client
      },
      catch: (cause) => new DatabaseUnavailable({ cause })
    }),
    (client) => Effect.promise(() => client.end()).pipe(Effect.interruptible, Effect.timeoutOption("1 second"))
  ))

const listenOnce = (channel: string, onNotification: Effect.Effect<void>, part: Part) =>
  Effect.gen(function*() {
    const client = yield* connect
    const fork = Runtime.runFork(yield* Effect.runtime<never>())
    return yield* Effect.async<never, DatabaseUnavailable>((resume) => {
      const lost = (cause: unknown) => resume(Effect.fail(new DatabaseUnavailable({ cause })))
      client.on("end", () => lost(new Error("connection ended")))
      client.on("notification", () => {
        // a defect ends the listening and with it the service
        fork(onNotification).addObserver((exit) => {
          if (Exit.isFailure(exit)) resume(Effect.failCause(exit.cause))
        })
      })
      client.query(`LISTEN ${Pg.escapeIdentifier(channel)}`).then(part.working, lost)
    })
  }).pipe(Effect.scoped)

/**
 * Calls `onNotification` for each notification of the channel, for ever, on its own connection.
 *
 * Reports to `part` whether it listens. A lost connection is replaced after 250 ms to 1 s. Notifications in between are lost, so they
 * may only shorten a wait: the tables are the source of truth.
 */
export const listen = (
  channel: string,
  onNotification: Effect.Effect<void>,
  part: Part
): Effect.Effect<never, never, PostgresPool> =>
  listenOnce(channel, onNotification, part).pipe(
    Effect.tapError((error) => Effect.sync(() => part.failed(problemOf(error, "postgres")))),
    Effect.retry(Schedule.exponential("250 millis").pipe(Schedule.union(Schedule.spaced("1 second")))),
    Effect.orDie
  )
