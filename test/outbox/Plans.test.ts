import { SqlClient } from "@effect/sql"
import { assert, layer } from "@effect/vitest"
import { Array as Arr, Effect, Layer, Option } from "effect"
import { randomUUID } from "node:crypto"
import * as Pg from "pg"
import { afterAll, vi } from "vitest"
import { OrderId } from "../../src/domain/Payment.js"
import { Backlog } from "../../src/outbox/Backlog.js"
import { Outbox } from "../../src/outbox/Outbox.js"
import * as Pruner from "../../src/outbox/Pruner.js"
import { ShardBatches } from "../../src/outbox/sharded/ShardBatches.js"
import { ShardOwners } from "../../src/outbox/sharded/ShardOwners.js"
import { PaymentRepo } from "../../src/payments/PaymentRepo.js"
import * as Fixtures from "./Fixtures.js"

const services = Layer.mergeAll(
  Layer.provideMerge(PaymentRepo.Default, Fixtures.layerOwner),
  Layer.provide(ShardBatches.Default, Fixtures.layerOwner),
  Layer.provide(ShardOwners.Default({ lease: "5 minutes" }), Fixtures.layerOwner)
)

interface Node {
  readonly "Node Type": string
  readonly "Relation Name"?: string
  readonly "Index Name"?: string
  readonly "Shared Hit Blocks": number
  readonly "Shared Read Blocks": number
  readonly Plans?: ReadonlyArray<Node>
}

const nodes = (node: Node): ReadonlyArray<Node> => [node, ...(node.Plans ?? []).flatMap(nodes)]

/** Pages that a node touched, what is below it included; what a CTE writes is not in the nodes above it. */
const touched = (node: Node) => node["Shared Hit Blocks"] + node["Shared Read Blocks"]
const pagesOf = (plan: Node) =>
  nodes(plan).reduce(
    (sum, node) => sum + Math.max(0, touched(node) - (node.Plans ?? []).reduce((below, _) => below + touched(_), 0)),
    0
  )

/** Plans of the statements that ran while somebody listened. */
let heard: Array<Node> | undefined

const query = Pg.Client.prototype.query as (this: Pg.Client, ...args: Array<unknown>) => unknown
const explaining = new WeakSet<Pg.Client>()
/** The plans with which they really ran: what is prepared keeps the one that was made for it at first. */
const explained: typeof query = function(...args) {
  // the settings of a session come before: they set what is sent to the client
  if (heard !== undefined && !explaining.has(this)) {
    explaining.add(this)
    this.on("notice", ({ message }) => {
      const [, plan] = /^duration: .* plan:\n(.*)$/s.exec(message ?? "") ?? []
      if (plan !== undefined) heard?.push((JSON.parse(plan) as { readonly Plan: Node }).Plan)
    })
    query.call(
      this,
      `LOAD 'auto_explain';
       SET auto_explain.log_min_duration = 0; SET auto_explain.log_format = json;
       SET auto_explain.log_analyze = on; SET auto_explain.log_buffers = on; SET auto_explain.log_timing = off;
       SET client_min_messages = log; SET log_min_messages = fatal`,
      () => {}
    )
  }
  return query.apply(this, args)
}
const spy = vi.spyOn(Pg.Client.prototype as { query: typeof query }, "query").mockImplementation(explained)
afterAll(() => spy.mockRestore())

/** How the one statement of `effect` finds its rows of the two tables, and how many pages it touches. */
const planOf = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const plans: Array<Node> = []
    yield* Effect.acquireUseRelease(
      Effect.sync(() => heard = plans),
      () => effect,
      () => Effect.sync(() => heard = undefined)
    )
    assert.lengthOf(plans, 1, "statements")
    const scans = nodes(plans[0]!).filter((node) =>
      ["event", "payment"].includes(node["Relation Name"] ?? "") && node["Node Type"].endsWith("Scan")
    )
    return {
      scans: Arr.dedupe(scans.map((node) => node["Node Type"].replace(" Only", ""))),
      pages: pagesOf(plans[0]!)
    }
  })

const done = 1_000_000
const batch = 100
/** A third of the table. */
const mostPages = 9_000

/** An outbox with a long past: sent events and settled payments, of which no statement here may read more than it asks for. */
const past = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    INSERT INTO event (topic, order_id, payload, status, done_at)
    SELECT 'payment', n, '{}', 'DONE', clock_timestamp() FROM generate_series(1, ${done}::int) AS n
  `
  yield* sql`
    INSERT INTO payment (order_id, status, inventory_key)
    SELECT n, 'COMPLETED', gen_random_uuid() FROM generate_series(1, 100000) AS n
  `
})

const orders = { next: 10_000_000 }
const some = (count: number) => Arr.makeBy(count, () => OrderId.make(BigInt(orders.next++)))
const event = { payload: "{}", traceparent: null }
const payment = (orderId: OrderId) => ({ orderId, inventoryKey: randomUUID(), ...event })
const settlement = (orderId: OrderId) => ({ orderId, status: "COMPLETED" as const, ...event })

layer(services, { timeout: "60 seconds", excludeTestServices: true })("plans after a million events", (it) => {
  it.effect(
    "each statement finds its rows by an index, and reads little of what is done",
    () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const outbox = yield* Outbox
        const repo = yield* PaymentRepo
        const owners = yield* ShardOwners
        const batches = yield* ShardBatches
        yield* sql`ALTER TABLE event SET (autovacuum_enabled = off)`
        yield* sql`ALTER TABLE payment SET (autovacuum_enabled = off)`
        const [shard] = yield* owners.acquire(1)

        for (
          const planned of ["for empty tables", "before a million events", "by statistics of an empty table", "today"]
        ) {
          yield* sql`UPDATE event SET status = 'DONE', reserved_to = NULL, batch = NULL WHERE status = 'WAIT'`
          if (planned === "before a million events") yield* past
          if (planned === "by statistics of an empty table") yield* sql`DISCARD PLANS`
          if (planned === "today") yield* sql`VACUUM ANALYZE event, payment`
          yield* Fixtures.append(some(planned === "for empty tables" ? 2 * batch : 5_000).map(Number))
          const check = Effect.fnUntraced(
            function*<A, E, R>(name: string, statement: Effect.Effect<A, E, R>) {
              const { pages, scans } = yield* planOf(statement)
              assert.includeMembers(["Index Scan"], scans, `${name}, planned ${planned}`)
              assert.isAtMost(pages, mostPages, `pages of ${name}, planned ${planned}`)
            }
          )

          const claim = yield* outbox.claim(batch)
          const [first, ...rest] = claim.events
          yield* check("claim", outbox.claim(batch))
          yield* check("claim from a floor", outbox.claim(batch, BigInt(first!.id)))
          yield* check("renew", outbox.renew(claim))
          yield* check("mark", outbox.markDone(claim, rest.slice(1)))
          yield* check("release", outbox.release(claim, [first!], 0))
          yield* check("refuse", outbox.refuse(claim, rest[0]!, "why"))

          yield* check("due shards", owners.due([{ owned: shard!, from: 0n }]))
          const owned = Option.getOrThrow(yield* batches.claim(shard!, 10))
          yield* check("claim of a shard", batches.claim(shard!, 10))
          yield* check("state of a shard", batches.stateOf(shard!))
          yield* check("mark of a batch", batches.mark(shard!, owned))
          yield* check("reconcile", batches.reconcile(shard!, owned.number))

          const payments = some(batch).map(payment)
          yield* check("create", repo.create(payments))
          yield* check("existing", repo.existing(payments))
          const [held, alone, ...together] = payments.map(({ orderId }) => settlement(orderId))
          yield* check("settle", repo.settle(held!))
          yield* check("settleAll for one", repo.settleAll([alone!]))
          yield* check("settleAll", repo.settleAll(together))

          yield* check("prune", Pruner.prune("1 day", "0"))
          yield* check(
            "backlog",
            Effect.flatMap(Backlog, (_) => _.measure).pipe(Effect.provide(Layer.fresh(Backlog.Default)))
          )
        }
      }),
    120_000
  )

  it.effect("a lease stays on the page of its event and touches no index", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const outbox = yield* Outbox
      yield* Fixtures.clear
      yield* sql.withTransaction(Effect.gen(function*() {
        yield* Fixtures.append(some(1_000).map(Number))
        assert.lengthOf((yield* outbox.claim(500)).events, 500)
        const [row] = yield* sql<{ readonly n: number }>`
          SELECT pg_stat_get_xact_tuples_hot_updated('event'::regclass)::int AS n
        `
        assert.isAtLeast(row!.n, 450)
      }))
    }))
})
