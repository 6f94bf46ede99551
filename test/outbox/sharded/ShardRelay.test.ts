import { SqlClient } from "@effect/sql"
import { assert, layer } from "@effect/vitest"
import { Array as Arr, Cause, Clock, Effect, Exit, Fiber, Option, Scope } from "effect"
import { BrokerContact } from "../../../src/outbox/BrokerContact.js"
import * as KafkaPublisher from "../../../src/outbox/leased/KafkaPublisher.js"
import * as Relay from "../../../src/outbox/leased/Relay.js"
import { Outbox } from "../../../src/outbox/Outbox.js"
import { ShardBatches } from "../../../src/outbox/sharded/ShardBatches.js"
import * as ShardOrphans from "../../../src/outbox/sharded/ShardOrphans.js"
import { ShardOwners } from "../../../src/outbox/sharded/ShardOwners.js"
import * as ShardSharing from "../../../src/outbox/sharded/ShardSharing.js"
import { until } from "../../harness/Eventually.js"
import * as KafkaAnswers from "../../harness/KafkaAnswers.js"
import * as KafkaTest from "../../harness/KafkaTest.js"
import * as Fixtures from "../Fixtures.js"
import {
  claimed,
  count,
  expire,
  fresh,
  idsOnTopic,
  lease,
  loseNumber,
  ordersOf,
  records,
  serve,
  shardOptions,
  TestLayer,
  watched
} from "./ShardFixtures.js"

layer(TestLayer, { timeout: "60 seconds", excludeTestServices: true })("ShardRelay", (it) => {
  it("shares are even, and sum up, for any number of relays", () => {
    for (const shards of [1, 7, 8, 64]) {
      for (const alive of Arr.range(1, 20)) {
        const shares = Arr.makeBy(alive, (before) => ShardSharing.share({ shards, alive, before }))
        assert.strictEqual(Arr.reduce(shares, 0, (sum, share) => sum + share), shards)
        assert.isAtMost(Math.max(...shares) - Math.min(...shares), 1)
      }
    }
  })

  it.scoped("publishes every event once, with its exact body, the orders' events in their order", () =>
    Effect.gen(function*() {
      yield* fresh
      const sql = yield* SqlClient.SqlClient
      const topic = yield* KafkaTest.freshTopic()
      const orders = Arr.range(1, 40)
      yield* Fixtures.append(orders, { topic })
      yield* Fixtures.append(orders, { topic, status: "COMPLETED" })
      const rows = yield* sql<{ readonly id: string; readonly payload: string }>`SELECT id, payload FROM event`
      const relay = yield* Effect.forkScoped(serve(topic))
      yield* until(count("DONE"), (n) => n === 80)
      yield* Fiber.interrupt(relay)

      const found = yield* until(records(topic), ({ length }) => length >= 80)
      assert.lengthOf(found, 80)
      const bodies = new Map(rows.map(({ id, payload }) => [id, payload]))
      for (const { id, value } of found) assert.strictEqual(value, bodies.get(id))
      for (const order of orders) {
        const ofOrder = found.filter(({ key }) => key === String(order))
        assert.deepStrictEqual(ofOrder.map(({ value }) => JSON.parse(value).status), ["CREATED", "COMPLETED"])
        assert.strictEqual(new Set(ofOrder.map(({ partition }) => partition)).size, 1)
      }
      const owners = yield* sql`SELECT FROM outbox_shard WHERE owner IS NOT NULL`
      assert.isEmpty(owners, "the relay has ended, and still owns shards")
    }))

  it.scoped("relays share the shards evenly; shards move without waiting for a lease when a relay comes or goes", () =>
    Effect.gen(function*() {
      yield* fresh
      const topic = yield* KafkaTest.freshTopic()
      const relay = Effect.gen(function*() {
        const { service, shards } = yield* watched
        const fiber = yield* Effect.forkScoped(Effect.provideService(serve(topic), ShardOwners, service))
        return { shards, fiber } as const
      })
      const [first, second] = [yield* relay, yield* relay]
      const sizes = (...relays: ReadonlyArray<{ readonly shards: ReadonlySet<number> }>) =>
        Effect.sync(() => relays.map(({ shards }) => shards.size).sort().join())
      yield* until(sizes(first, second), (now) => now === "4,4")
      const third = yield* relay
      yield* until(sizes(first, second, third), (now) => now === "2,3,3")
      assert.strictEqual(new Set([...first.shards, ...second.shards, ...third.shards]).size, 8)
      yield* Fiber.interrupt(second.fiber)
      assert.strictEqual(second.shards.size, 0)
      yield* until(sizes(first, third), (now) => now === "4,4")
      // and all of them are served
      yield* Fixtures.append(Arr.range(1, 40), { topic })
      yield* until(count("DONE"), (n) => n === 40)
      yield* Fiber.interruptAll([first.fiber, third.fiber])
    }))

  it.scoped("an at-least-once claim takes no event that is in a batch, and none after it", () =>
    Effect.gen(function*() {
      yield* fresh
      const outbox = yield* Outbox
      const topic = yield* KafkaTest.freshTopic()
      const { ids } = yield* claimed(topic, 3)
      const orders = yield* ordersOf(0, 4)
      const [, , , free] = yield* Fixtures.append(orders, { topic, status: "COMPLETED" })
      const { events } = yield* outbox.claim(500)
      assert.deepStrictEqual(events.map(({ id }) => id), [free])
      assert.lengthOf(ids, 3)
    }))

  it.scoped("the number lost, and the topic does not show it: the shard reports it and waits for an operator", () =>
    Effect.gen(function*() {
      yield* fresh
      const sql = yield* SqlClient.SqlClient
      const batches = yield* ShardBatches
      const topic = yield* KafkaTest.freshTopic()
      const half = yield* Effect.scoped(Effect.gen(function*() {
        const { batch, ids, outgoing, transactions } = yield* claimed(topic, 2)
        yield* transactions.send(outgoing.slice(0, 1), batch.number)
        yield* transactions.commit
        return ids
      }))
      yield* loseNumber
      yield* expire

      const others = (yield* Fixtures.append(yield* ordersOf(1, 3), { topic })).length
      const part = Fixtures.part()
      const relay = yield* Effect.forkScoped(serve(topic, { part }))
      yield* until(count("DONE"), (n) => n === others)
      yield* until(Effect.sync(() => part.why() ?? ""), (problem) => problem.includes("number of shard 0"))
      assert.include(part.why()!, "2 events")
      assert.strictEqual(yield* batches.resolve(0, false), 0, "the batch is younger than a minute")
      yield* sql`UPDATE outbox_shard SET batch_at = batch_at - interval '2 minutes' WHERE shard = 0`
      // one of them is on the topic, which this operator overlooks
      assert.strictEqual(yield* batches.resolve(0, true), 2)
      const more = yield* Fixtures.append(yield* ordersOf(0, 2), { topic, status: "COMPLETED" })
      yield* until(count("DONE"), (n) => n === others + 4)
      yield* until(Effect.sync(() => part.why()), (problem) => problem === undefined)
      yield* Fiber.interrupt(relay)
      const sent = yield* until(idsOnTopic(topic), ({ length }) => length >= others + 3)
      assert.lengthOf(sent, others + 3)
      assert.include(sent, half[0])
      assert.includeMembers(sent, more)
    }))

  it.scoped("a relay with a stuck shard stops at once", () =>
    Effect.gen(function*() {
      yield* fresh
      const topic = yield* KafkaTest.freshTopic()
      yield* Effect.scoped(claimed(topic, 1))
      yield* loseNumber
      yield* expire
      const part = Fixtures.part()
      const relay = yield* Effect.forkScoped(serve(topic, { drainTimeout: "1 hour", part }))
      yield* until(Effect.sync(() => part.why() ?? ""), (problem) => problem.includes("number of shard 0"))
      yield* Fiber.interrupt(relay).pipe(Effect.timeout("15 seconds"))
    }))

  it.scoped("a refused record delays no other event, and no event is doubled", () =>
    Effect.gen(function*() {
      yield* fresh
      const sql = yield* SqlClient.SqlClient
      const topic = yield* KafkaTest.freshTopic({ "max.message.bytes": "20000" })
      const ids = yield* Fixtures.append(yield* ordersOf(0, 40), { topic })
      yield* sql`UPDATE event SET payload = repeat('x', 30000) WHERE id = ${ids[20]!}`
      const relay = yield* Effect.forkScoped(serve(topic))
      yield* until(count("DONE"), (n) => n === 39)
      yield* until(Fixtures.statusOf(ids[20]!), ({ attempts }) => attempts >= 1)
      yield* Fiber.interrupt(relay)
      const { last_error, status } = yield* Fixtures.statusOf(ids[20]!)
      // WAIT, or DEAD after so many attempts as there was time for
      assert.notStrictEqual(status, "DONE")
      assert.strictEqual(last_error, "MESSAGE_TOO_LARGE")
      const sent = yield* until(idsOnTopic(topic), ({ length }) => length >= 39)
      assert.deepStrictEqual(sent, ids.filter((_, place) => place !== 20).sort())
    }))

  it.scoped("an at-least-once relay publishes the events of a dead exactly-once relay", () =>
    Effect.gen(function*() {
      yield* fresh
      const topic = yield* KafkaTest.freshTopic()
      const dead = yield* Scope.make()
      const { batch, outgoing, owned, transactions } = yield* Scope.extend(claimed(topic, 3), dead)
      yield* transactions.send(outgoing, batch.number)
      yield* transactions.commit
      yield* Fixtures.append((yield* ordersOf(0, 5)).slice(3), { topic })
      const second = Option.getOrThrow(yield* (yield* ShardBatches).claim(owned, 500))
      yield* transactions.send(second.events.map(Fixtures.record), second.number)
      yield* Fixtures.append(yield* ordersOf(0, 5), { topic, status: "COMPLETED" })

      const relay = yield* Effect.forkScoped(
        Effect.raceFirst(
          Relay.serve({
            batchSize: 500,
            lease,
            pollInterval: "20 millis",
            drainTimeout: "10 seconds",
            part: Fixtures.part(),
            listener: Fixtures.part()
          }),
          ShardOrphans.reconcileOrphans({ ...shardOptions(topic), interval: "50 millis", part: Fixtures.part() })
        ).pipe(Effect.provide(KafkaPublisher.layer(KafkaTest.kafka())))
      )
      yield* expire
      yield* until(count("DONE"), (n) => n === 10)
      yield* Fiber.interrupt(relay)
      const found = yield* until(records(topic), ({ length }) => length >= 10)
      assert.lengthOf(found, 10)
      for (const order of yield* ordersOf(0, 5)) {
        const ofOrder = found.filter(({ key }) => key === String(order))
        assert.deepStrictEqual(ofOrder.map(({ value }) => JSON.parse(value).status), ["CREATED", "COMPLETED"])
      }
    }))

  it.scoped("a relay that no broker answers leaves the shards of dead relays to others", () =>
    Effect.gen(function*() {
      yield* fresh
      const sql = yield* SqlClient.SqlClient
      const topic = yield* KafkaTest.freshTopic()
      yield* Scope.extend(claimed(topic, 3), yield* Scope.make())
      yield* expire
      const shards = sql<{ readonly owned: number; readonly left: number }>`
        SELECT count(*) FILTER (WHERE owned_to > clock_timestamp())::int AS owned,
               count(*) FILTER (WHERE leased_to IS NOT NULL)::int AS left
        FROM outbox_shard
      `.pipe(Effect.map(([row]) => row!))
      assert.deepStrictEqual(yield* shards, { owned: 0, left: 1 })
      const contact = { isLost: true, looks: 0 }
      yield* Effect.forkScoped(
        ShardOrphans.reconcileOrphans({ ...shardOptions(topic), interval: "1 hour", part: Fixtures.part() }).pipe(
          Effect.provideService(
            BrokerContact,
            BrokerContact.make({
              answered: () => undefined,
              isLost: Effect.sync(() => {
                contact.looks++
                return contact.isLost
              })
            })
          )
        )
      )
      yield* until(Effect.sync(() => contact.looks), (n) => n >= 2)
      assert.deepStrictEqual(yield* shards, { owned: 0, left: 1 })
      contact.isLost = false
      yield* until(shards, ({ left }) => left === 0)
    }))

  it.scoped("the look for orphans is repeated within seconds when the database is back, not after a lease", () =>
    Effect.gen(function*() {
      yield* fresh
      const sql = yield* SqlClient.SqlClient
      const part = Fixtures.part()
      const topic = yield* KafkaTest.freshTopic()
      const why = Effect.sync(() => part.why() ?? "")
      const isLocked = yield* Effect.makeLatch()
      const maintenance = yield* Effect.forkScoped(
        sql`LOCK TABLE outbox_shard IN ACCESS EXCLUSIVE MODE`.pipe(
          Effect.zipRight(isLocked.open),
          Effect.zipRight(Effect.never),
          sql.withTransaction
        )
      )
      yield* isLocked.await
      yield* Effect.forkScoped(ShardOrphans.reconcileOrphans({ ...shardOptions(topic), interval: "1 hour", part }))
      yield* until(why, (problem) => problem.includes("the database"))
      yield* Fiber.interrupt(maintenance)
      yield* until(why, (problem) => problem === "")
    }))

  it.scoped("a lease longer than the brokers allow is reported with the name of its setting", () =>
    Effect.gen(function*() {
      yield* fresh
      const topic = yield* KafkaTest.freshTopic()
      const part = Fixtures.part()
      const relay = yield* Effect.forkScoped(serve(topic, { lease: "20 minutes", part }))
      yield* until(Effect.sync(() => part.why() ?? ""), (problem) => problem.includes("OUTBOX_LEASE"))
      assert.include(part.why()!, "transaction.max.timeout.ms")
      yield* Fiber.interrupt(relay)
    }))

  it.scoped("a broker stalls while shards move: the relay keeps the others", () =>
    Effect.gen(function*() {
      yield* fresh
      const topic = yield* KafkaTest.freshTopic()
      const sql = yield* SqlClient.SqlClient
      const owned = sql<{ readonly token: string; readonly alive: boolean }>`
        SELECT owner::text AS token, owned_to > clock_timestamp() AS alive FROM outbox_shard WHERE owner IS NOT NULL
      `
      let stalls = true
      const go: Array<() => void> = []
      yield* KafkaAnswers.between((asked, ask) =>
        stalls && asked === "EndTxn"
          ? new Promise<void>((resolve) => go.push(resolve)).then(ask)
          : ask()
      )
      yield* Effect.addFinalizer(() =>
        Effect.sync(() => {
          stalls = false
          go.forEach((resolve) => resolve())
        })
      )
      const relay = yield* serve(topic, { pollInterval: "100 millis" }).pipe(
        Effect.provide(ShardOwners.Default({ lease: "2 seconds" })),
        Effect.forkScoped
      )
      // each shard waits for the broker
      yield* until(Effect.sync(() => go.length), (n) => n === 8)
      // another relay has come, and gets half of them
      yield* sql`
        INSERT INTO outbox_relay (id, alive_to)
        VALUES ('00000000-0000-0000-0000-000000000000', clock_timestamp() + interval '1 hour')
      `
      const tokens = new Set((yield* owned).map(({ token }) => token))
      // longer than a lease
      const since = yield* Clock.currentTimeNanos
      while ((yield* Clock.currentTimeNanos) - since < 3_000_000_000n) {
        const now = yield* owned
        assert.isTrue(now.every(({ alive, token }) => alive && tokens.has(token)), "a shard was not kept")
        yield* Effect.sleep("50 millis")
      }
      stalls = false
      go.forEach((resolve) => resolve())
      yield* until(owned, ({ length }) => length === 4)
      yield* Fiber.interrupt(relay)
    }))

  it.scoped("a worker dies of a bug: the relay fails with it, and releases its shards", () =>
    Effect.gen(function*() {
      yield* fresh
      const topic = yield* KafkaTest.freshTopic()
      const sql = yield* SqlClient.SqlClient
      yield* Fixtures.append(Arr.range(1, 20), { topic })
      const batches = yield* ShardBatches
      const claim: typeof batches.claim = (owned, limit) =>
        owned.shard === 3 ? Effect.dieMessage("division by zero") : batches.claim(owned, limit)
      const relay = yield* serve(topic).pipe(
        Effect.provideService(ShardBatches, ShardBatches.make({ ...batches, claim })),
        Effect.fork
      )
      const exit = yield* Fiber.await(relay).pipe(Effect.timeout("30 seconds"))
      assert.isTrue(Exit.isFailure(exit) && Cause.isDie(exit.cause))
      assert.isEmpty(yield* sql`SELECT FROM outbox_shard WHERE owner IS NOT NULL`)
      assert.isEmpty(yield* sql`SELECT FROM outbox_relay`)
    }))
})
