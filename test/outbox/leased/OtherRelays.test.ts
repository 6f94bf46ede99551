import { SqlClient } from "@effect/sql"
import { assert, layer } from "@effect/vitest"
import { Array as Arr, Duration, Effect, Layer } from "effect"
import * as OtherRelays from "../../../src/outbox/leased/OtherRelays.js"
import { Spreads } from "../../../src/outbox/Spreads.js"
import * as Fixtures from "../Fixtures.js"

let away = Duration.zero
const spreads = Layer.succeed(
  Spreads,
  Spreads.make({
    of: () => ({ partitions: 4 }),
    watch: () => Effect.never,
    brokersAway: Effect.sync(() => away)
  })
)

/** Whether other relays go on, as a relay sees it for which the brokers have been away for so long. */
const goOn = (time: Duration.DurationInput) =>
  Effect.suspend(() => {
    away = Duration.decode(time)
    return Effect.flatten(OtherRelays.goOn)
  }).pipe(Effect.provide(spreads))

const published = Effect.fnUntraced(function*(ids: ReadonlyArray<string>, secondsAgo: number) {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    UPDATE event SET status = 'DONE', done_at = clock_timestamp() - make_interval(secs => ${secondsAgo})
    WHERE id = ANY(${ids}::bigint[])
  `
})

layer(Fixtures.layer)("events of other relays", (it) => {
  it.effect("what was published while the brokers are away for this relay was published by another", () =>
    Effect.gen(function*() {
      yield* Fixtures.clear
      assert.isFalse(yield* goOn("1 hour"), "an empty outbox")
      const [first, second] = yield* Fixtures.append([1, 2, 3])
      assert.isFalse(yield* goOn("1 hour"), "nothing published")
      yield* published([first!], 60)
      assert.isFalse(yield* goOn("30 seconds"), "published before")
      assert.isTrue(yield* goOn("90 seconds"), "published meanwhile")
      yield* published([second!], 1)
      assert.isTrue(yield* goOn("30 seconds"), "published meanwhile, the next")
      assert.isFalse(yield* goOn(0), "the brokers answer this relay")
    }))

  it.effect("others go on at the beginning of a long backlog, beside events that this relay has leased", () =>
    Effect.gen(function*() {
      yield* Fixtures.clear
      const sql = yield* SqlClient.SqlClient
      const ids = yield* Fixtures.append(Arr.range(1, 10_100))
      yield* published(ids.slice(0, 10), 60)
      yield* sql`
        UPDATE event SET lease_token = gen_random_uuid(), reserved_to = clock_timestamp() + interval '1 minute'
        WHERE id = ANY(${ids.slice(10, 20)}::bigint[])
      `
      assert.isFalse(yield* goOn("30 seconds"))
      yield* published(ids.slice(20, 25), 1)
      assert.isTrue(yield* goOn("30 seconds"))
    }))
})
