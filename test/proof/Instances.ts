import { assert } from "@effect/vitest"
import { Effect } from "effect"
import { randomUUID } from "node:crypto"
import { eventually } from "../harness/Eventually.js"
import type * as Program from "../harness/Program.js"
import type * as Saga from "./Saga.js"

export const env = { OUTBOX_LEASE: "2s" }
/** A relay that takes one event at a time is behind, and always has one in hand. */
export const slowRelay = { OUTBOX_BATCH_SIZE: "1" }

export const killed = (program: Program.Services) =>
  program.signal("SIGKILL").pipe(
    Effect.zipRight(program.ended),
    Effect.map(({ signal }) => assert.strictEqual(signal, "SIGKILL"))
  )

export const says = (program: Program.Program, text: string) =>
  Effect.sync(() => assert.include(program.stderr(), text)).pipe(eventually())

export const onTopic = ({ topics, world }: Saga.Saga) =>
  Effect.map(topics.ends(world.payment), (ends) => ends.reduce((sum, { high }) => sum + Number(high), 0))

/** Ends when the group has read all that is on the topic now: somebody else has the partitions of those that stand still. */
export const overtaken = Effect.fnUntraced(function*({ topics, world }: Saga.Saga) {
  const ends = yield* topics.ends(world.inventory)
  yield* topics.committed(world.group, world.inventory).pipe(
    Effect.tap((committed) =>
      assert.isTrue(ends.every(({ high, partition }) => committed.get(partition)! >= Number(high)), "not read yet")
    ),
    eventually("60 seconds")
  )
})

/** An order as a use case writes it. */
export const order = ({ tables, world }: Saga.Saga, orderId: number, payload?: string) =>
  tables.query(
    `WITH paid AS (INSERT INTO payment (order_id, status) VALUES ($2, 'CREATED'))
     INSERT INTO event (topic, order_id, payload) VALUES ($1, $2, $3)`,
    [
      world.payment,
      orderId,
      payload ?? `{"idempotent_key":"${randomUUID()}","order_id":${orderId},"status":"CREATED"}`
    ]
  )
