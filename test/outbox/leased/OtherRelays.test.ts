import { SqlClient } from "@effect/sql"
import { assert, layer } from "@effect/vitest"
import { Array as Arr, Effect, Layer } from "effect"
import { BrokerContact } from "../../../src/outbox/BrokerContact.js"
import * as OtherRelays from "../../../src/outbox/leased/OtherRelays.js"
import * as PgTest from "../../harness/PgTest.js"
import * as Fixtures from "../Fixtures.js"

const brokers = { areAway: false }
const contact = Layer.succeed(
  BrokerContact,
  BrokerContact.make({ answered: () => undefined, isLost: Effect.sync(() => brokers.areAway) })
)

/** Whether other relays go on, as a relay sees it that has just started. */
const make = Effect.suspend(() => {
  brokers.areAway = false
  return Effect.zipRight(Fixtures.clear, OtherRelays.goOn)
}).pipe(Effect.provide(contact))
const away = Effect.sync(() => (brokers.areAway = true))

const published = Effect.fnUntraced(function*(ids: ReadonlyArray<string>) {
  const sql = yield* SqlClient.SqlClient
  yield* sql`UPDATE event SET status = 'DONE', done_at = clock_timestamp() WHERE id = ANY(${ids}::bigint[])`
})

layer(Fixtures.layer)("other relays go on", (it) => {
  it.effect("when an event is published that was written after the brokers had gone for this relay", () =>
    Effect.gen(function*() {
      const goOn = yield* make
      const before = yield* Fixtures.append([1, 2])
      assert.isFalse(yield* goOn, "the brokers answer")
      yield* away
      assert.isFalse(yield* goOn, "nothing is published")
      yield* published(before)
      assert.isFalse(yield* goOn, "a mark that comes late: the brokers may have gone for all meanwhile")
      const [first, second] = yield* Fixtures.append([3, 4])
      assert.isFalse(yield* goOn, "written, and not published")
      yield* published([second!])
      assert.isTrue(yield* goOn)
      yield* published([first!])
      assert.isTrue(yield* goOn, "it goes on")
    }))

  it.effect("from the next outage on, only what is published then counts", () =>
    Effect.gen(function*() {
      const goOn = yield* make
      yield* away
      assert.isFalse(yield* goOn, "an empty outbox")
      yield* published(yield* Fixtures.append([1]))
      assert.isTrue(yield* goOn)
      brokers.areAway = false
      assert.isFalse(yield* goOn, "the brokers answer")
      yield* away
      assert.isFalse(yield* goOn, "the next outage")
    }))

  it.effect("also with a long backlog, and not while the database does not answer", () =>
    Effect.gen(function*() {
      const goOn = yield* make
      yield* away
      yield* goOn
      const ids = yield* Fixtures.append(Arr.range(1, 10_100))
      assert.isFalse(yield* goOn)
      yield* published(ids.slice(0, 5))
      assert.isTrue(yield* goOn)
      yield* PgTest.asAdministrator(Effect.flatMap(SqlClient.SqlClient, (sql) => sql`ALTER TABLE event RENAME TO gone`))
      assert.isFalse(yield* goOn)
      yield* PgTest.asAdministrator(Effect.flatMap(SqlClient.SqlClient, (sql) => sql`ALTER TABLE gone RENAME TO event`))
      assert.isTrue(yield* goOn)
    }))
})
