import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Redis } from "ioredis"
import { type CrashPointName, crashPoints } from "../../src/domain/CrashPoint.js"
import { eventually } from "../e2e/Eventually.js"
import type * as Program from "../e2e/Program.js"
import * as Broker from "./Broker.js"
import * as Saga from "./Saga.js"

interface Rehearsal {
  /** Parts of the process that dies; default: all. */
  readonly victim?: ReadonlyArray<string>
  /** Parts of a process that lives through it; default: none. */
  readonly bystander?: ReadonlyArray<string>
  /** The passage at which it dies. Default: the first, so that nothing else can have come of that point. */
  readonly passage?: number
  readonly env?: Program.Environment
  /** Makes it come about, with a broker of one's own, once the services are at work. */
  readonly provoke?: (saga: Saga.Saga, victim: Program.Services, broker: Broker.Broker) => Effect.Effect<unknown>
  /** Looks at what it has left behind, and answers how much. */
  readonly left: (saga: Saga.Saga) => Effect.Effect<number, unknown, never>
  /** What those who went on had to do about it. */
  readonly mended?: (left: number, heir: Program.Services, verdict: Saga.Verdict) => Effect.Effect<void>
  /** Nothing may be sent twice because of it. */
  readonly noResends?: boolean
}

const leased = ({ tables }: Saga.Saga) => tables.count("event WHERE status = 'WAIT' AND lease_token IS NOT NULL")

const leavesLeases = (saga: Saga.Saga) =>
  Effect.tap(leased(saga), (events) => assert.isAbove(events, 0, "no event is leased"))

/** How many payments Redis knows of. */
const remembered = ({ tables, world }: Saga.Saga) =>
  Effect.gen(function*() {
    const rows = yield* tables.query<{ readonly inventory_key: string }>("SELECT inventory_key FROM payment")
    const redis = yield* Effect.acquireRelease(
      Effect.sync(() => new Redis(world.redisUrl)),
      (redis) => Effect.sync(() => redis.disconnect())
    )
    const names = rows.map((row) => `payments:inventory:${row.inventory_key}`)
    if (names.length === 0) return 0
    return (yield* Effect.promise(() => redis.mget(names))).filter((order) => order !== null).length
  }).pipe(Effect.scoped)

/** Payments that are there, although the group has not moved an offset. */
const leavesPayments = (saga: Saga.Saga) =>
  Effect.gen(function*() {
    const committed = yield* saga.topics.committed(saga.world.group, saga.world.inventory)
    assert.isTrue([...committed.values()].every((offset) => offset <= 0), "an offset has moved")
    const payments = yield* saga.tables.count("payment")
    assert.isAbove(payments, 0, "no payment is there")
    return payments
  })

const leavesKeys = Effect.fnUntraced(function*(saga: Saga.Saga) {
  yield* leavesPayments(saga)
  const keys = yield* remembered(saga)
  assert.isAbove(keys, 0, "Redis knows nothing")
  return keys
})

/** Its heir read again what was left, and this layer knew it. */
const knownTo = (layer: "redis" | "postgres") => (left: number, heir: Program.Services) =>
  Effect.map(
    heir.metric("payments_dedupe_hits_total", `layer="${layer}"`),
    (hits) => assert.isAtLeast(hits, left, `${layer} did not know them`)
  )

const resent = (_: number, __: Program.Services, { found }: Saga.Verdict) =>
  Effect.sync(() => assert.isAbove(found["resend"] ?? 0, 0, "nothing was sent again"))

/** The relay alone dies, under services that go on. One event a claim: it is behind, and always has one in hand. */
const relay = {
  victim: ["relay"],
  bystander: ["consumer", "grpc"],
  env: { OUTBOX_BATCH_SIZE: "1" }
} as const

/** The same with transactions: nothing is ever sent again. */
const exactlyOnce = {
  ...relay,
  env: { ...relay.env, OUTBOX_DELIVERY: "exactly-once" },
  passage: 20,
  noResends: true
} as const

const leavesBatch = ({ tables }: Saga.Saga) =>
  Effect.tap(
    tables.count("event WHERE status = 'WAIT' AND batch IS NOT NULL"),
    (events) => assert.isAbove(events, 0, "no batch is left behind")
  )

const rehearsals: Record<CrashPointName, Rehearsal> = {
  "consumer-decoded": {
    left: ({ tables }) =>
      Effect.tap(tables.count("payment"), (payments) => assert.strictEqual(payments, 0, "something is written"))
  },
  "consumer-committed": {
    left: (saga) =>
      Effect.zipLeft(
        leavesPayments(saga),
        Effect.map(remembered(saga), (keys) => assert.strictEqual(keys, 0, "Redis knows before its time"))
      ),
    mended: knownTo("postgres")
  },
  "consumer-remembered": { left: leavesKeys, mended: knownTo("redis") },
  "consumer-dead-lettered": {
    left: Effect.fnUntraced(function*({ topics, world }) {
      const committed = yield* topics.committed(world.group, world.inventory)
      const letters = yield* topics.follow(world.dlq)
      yield* Effect.sync(() => assert.isNotEmpty(letters)).pipe(eventually())
      const moved = letters.filter(({ headers }) =>
        committed.get(Number(headers["dlq-partition"]))! > Number(headers["dlq-offset"])
      )
      assert.isEmpty(moved, "the offset of a dead letter has moved")
      return letters.length
    }, Effect.scoped),
    mended: (_, __, { dead_letters, inventory }) =>
      Effect.sync(() => assert.isAbove(dead_letters, inventory.malformed, "no dead letter was written again"))
  },
  "consumer-taken": { left: leavesKeys, mended: knownTo("redis") },
  // it has several claims in hand: that of another may be sent, and not marked
  "relay-claimed": { ...relay, passage: 20, left: leavesLeases },
  "relay-sent": { ...relay, passage: 20, left: leavesLeases, mended: resent },
  "relay-marked": {
    ...relay,
    passage: 20,
    left: ({ tables }) =>
      Effect.tap(
        tables.count("event WHERE status = 'DONE'"),
        (events) => assert.isAtLeast(events, 20, "nothing is marked")
      )
  },
  "relay-batch-sent": { ...exactlyOnce, left: leavesBatch },
  "relay-batch-committed": { ...exactlyOnce, left: leavesBatch },
  "relay-renewing": {
    ...relay,
    provoke: (_, victim, broker) => broker.frozen(victim.ended),
    left: leavesLeases
  },
  "relay-stopping": {
    ...relay,
    provoke: (saga, victim, broker) =>
      broker.frozen(
        eventually()(leavesLeases(saga)).pipe(Effect.zipRight(victim.signal("SIGTERM")), Effect.zipRight(victim.ended))
      ),
    left: leavesLeases
  },
  "grpc-committed": {
    victim: ["grpc"],
    bystander: ["consumer", "relay"],
    passage: 20,
    left: (saga) =>
      Effect.map(saga.tables.count("payment WHERE status <> 'CREATED'"), (payments) => {
        assert.isAbove(payments, saga.settled(), "no client is left without an answer")
        return payments - saga.settled()
      }),
    noResends: true
  },
  "migration-half-way": {
    left: ({ tables }) =>
      Effect.map(
        tables.query("SELECT FROM pg_class WHERE relname IN ('payment', 'event')"),
        (rows) => {
          assert.isEmpty(rows, "half of a migration is there")
          return 0
        }
      ),
    noResends: true
  }
}

const rehearse = Effect.fnUntraced(function*(point: CrashPointName) {
  const rehearsal = rehearsals[point]
  assert.isDefined(rehearsal, "a crash point without a rehearsal")
  const { bystander, env = {}, left, mended, noResends = false, passage = 1, provoke, victim = [] } = rehearsal
  const broker = provoke === undefined ? undefined : yield* Broker.make
  const saga = yield* Saga.make({
    env: { OUTBOX_LEASE: "2s" },
    // many worlds at a time; where a broker stands still, there has to be a backlog
    ...(broker === undefined ? { ordersPerSecond: 33 } : { servers: { kafkaBrokers: broker.brokers } })
  })
  const running = yield* saga.load
  if (bystander !== undefined) yield* saga.serve(bystander)
  const first = yield* saga.serve(victim, {
    ...env,
    PAYMENTS_DRILL: `${point}:${passage}`,
    PAYMENTS_DRILLS_ALLOWED: "true"
  })
  if (provoke !== undefined) {
    yield* saga.more()
    yield* provoke(saga, first, broker!)
  }
  const ended = yield* first.ended.pipe(Effect.timeout("60 seconds"))
  assert.strictEqual(ended.signal, "SIGKILL", first.stderr().slice(-2_000))

  const behind = yield* left(saga)
  const heir = yield* saga.serve(victim)
  yield* saga.more()
  const verdict = yield* saga.judge(running, ...(noResends ? ["--no-resends"] : []))
  if (mended !== undefined) yield* mended(behind, heir, verdict)
})

describe.concurrent("a process that is killed at its worst moment, under load, loses and doubles nothing", () => {
  for (const point of Object.keys(crashPoints) as ReadonlyArray<CrashPointName>) {
    it.scopedLive(point, () => rehearse(point), 150_000)
  }
})
