import { assert } from "@effect/vitest"
import { Effect } from "effect"
import { eventually } from "../harness/Eventually.js"
import type * as Program from "../harness/Program.js"
import * as Saga from "./Saga.js"

// no process dies by itself: a lease that runs out on a busy machine would be a resend
export const atLeastOnce = { OUTBOX_DELIVERY: "at-least-once", OUTBOX_LEASE: "30s" }
export const exactlyOnce = { OUTBOX_DELIVERY: "exactly-once", OUTBOX_LEASE: "4s" }

/** Time limit of a world, in milliseconds. */
export const limit = 200_000

/** A world with exactly-once relays. Several run at the same time. */
export const make = (options: Saga.SagaOptions = {}) => Saga.make({ env: exactlyOnce, ordersPerSecond: 33, ...options })

/** Ends once these relays have so many shards between them, all there are, and each its share. */
export const sharedOf = (all: number, ...relays: ReadonlyArray<Program.Services>) =>
  Effect.forEach(relays, (relay) => relay.metric("payments_shards_owned"), { concurrency: "unbounded" }).pipe(
    Effect.tap((shards) => {
      assert.isAtLeast(Math.min(...shards), Math.floor(all / relays.length), `shards: ${shards.join()}`)
      assert.strictEqual(shards.reduce((sum, count) => sum + count), all, `shards: ${shards.join()}`)
    }),
    eventually("60 seconds")
  )

/** The same for the usual number of shards. */
export const shared = (...relays: ReadonlyArray<Program.Services>) => sharedOf(2, ...relays)
