import { assert, describe, it, layer } from "@effect/vitest"
import { Effect } from "effect"
import { Redis } from "ioredis"
import { type CrashPointName, crashPoints } from "../../../src/drills/CrashPoint.js"
import { eventually } from "../../harness/Eventually.js"
import type * as Program from "../../harness/Program.js"
import * as Broker from "../Broker.js"
import * as Saga from "../Saga.js"

interface Rehearsal {
  /** Parts of the process that dies; default: all. */
  readonly victim?: ReadonlyArray<string>
  /** Parts of a process that lives through it; default: none. */
  readonly bystander?: ReadonlyArray<string>
  /** The passage at which it dies. Default: the first, so that nothing else can have come of that point. */
  readonly passage?: number
  readonly env?: Program.Environment
  /** Makes it come about, with the broker that the services have for themselves, once they are at work. */
  readonly provoke?: (saga: Saga.Saga, victim: Program.Services, broker: Broker.Broker) => Effect.Effect<unknown>
  /** Looks at what it has left behind, and answers how much. Orders that it can have seen are those after `from`. */
  readonly left: (saga: Saga.Saga, from: number) => Effect.Effect<number, unknown>
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

/** Its heir read again what was left, and this layer knew of it; of all, where Redis always answers in time. */
const knownTo = (layer: "redis" | "postgres") => (left: number, heir: Program.Services) =>
  Effect.gen(function*() {
    assert.isAbove(yield* heir.metric("payments_dedupe_hits_total", `layer="${layer}"`), 0, `${layer} knew nothing`)
    assert.isAtLeast(yield* heir.metric("payments_dedupe_hits_total"), left, "nobody knew some")
  })

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

/** The broker stands still meanwhile, and the relay has an event in hand that it cannot be rid of. */
const held = (orderId: number, meanwhile: (saga: Saga.Saga, victim: Program.Services) => Effect.Effect<unknown>) =>
  Effect.fnUntraced(function*(saga: Saga.Saga, victim: Program.Services, broker: Broker.Broker) {
    // a relay that has not met the broker yet takes nothing
    yield* victim.untilReady
    yield* saga.reserved(orderId)
    yield* broker.frozen(Effect.zipRight(saga.ask(orderId), meanwhile(saga, victim)))
  })

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
    left: ({ tables }, from) =>
      Effect.tap(
        tables.count(`event WHERE status = 'DONE' AND order_id > ${from}`),
        (events) => assert.isAtLeast(events, 20, "nothing is marked")
      )
  },
  "relay-batch-sent": { ...exactlyOnce, left: leavesBatch },
  "relay-batch-committed": { ...exactlyOnce, left: leavesBatch },
  "relay-renewing": {
    ...relay,
    provoke: held(800_000_001, (_, victim) => victim.ended),
    left: leavesLeases
  },
  "relay-stopping": {
    ...relay,
    provoke: held(
      800_000_002,
      (saga, victim) =>
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

/** The process dies, another one goes on, and all that was begun is judged. */
const rehearse = Effect.fnUntraced(function*(point: CrashPointName, saga: Saga.Saga, broker?: Broker.Broker) {
  const { env = {}, left, mended, noResends = false, passage = 1, provoke, victim = [] } = rehearsals[point]
  const from = saga.begun()
  const running = yield* saga.load
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

  const behind = yield* left(saga, from)
  const heir = yield* saga.serve(victim)
  yield* saga.more()
  const verdict = yield* saga.judge(running, { noResends })
  if (mended !== undefined) yield* mended(behind, heir, verdict)
  yield* heir.signal("SIGTERM")
  assert.strictEqual((yield* heir.ended).code, 0, heir.stderr().slice(-2_000))
}, Effect.scoped)

const lease = { OUTBOX_LEASE: "2s" }

/** The services that live through the death of a relay, and their broker, which nobody else uses. */
class Relays extends Effect.Service<Relays>()("test/Relays", {
  scoped: Effect.gen(function*() {
    const broker = yield* Broker.make
    const saga = yield* Saga.make({ env: lease, servers: { kafkaBrokers: broker.brokers } })
    yield* saga.serve(relay.bystander)
    return { broker, saga } as const
  })
}) {}

const points = Object.keys(crashPoints) as ReadonlyArray<CrashPointName>
const ofRelays = points.filter((point) => rehearsals[point].victim === relay.victim)

// what was sent again once is told by every later audit of these services
const resends = (point: CrashPointName) => rehearsals[point].noResends ? 0 : rehearsals[point].mended ? 1 : 2

describe("a process that is killed at its worst moment under load loses and doubles nothing", () => {
  layer(Relays.Default, { timeout: "120 seconds", excludeTestServices: true })(
    "P1 P2 P3 P4 P5 P7 P8: relays, one after the other",
    (it) => {
      for (const point of [...ofRelays].sort((a, b) => resends(a) - resends(b))) {
        it.effect(point, () => Effect.flatMap(Relays, ({ broker, saga }) => rehearse(point, saga, broker)), 120_000)
      }
    }
  )

  describe.concurrent("P1 P2 P3 P4 P5 P7 P8: in a world of its own", () => {
    for (const point of points.filter((point) => !ofRelays.includes(point))) {
      it.scopedLive(point, () =>
        Effect.gen(function*() {
          const saga = yield* Saga.make({ env: lease })
          const { bystander } = rehearsals[point]
          if (bystander !== undefined) yield* saga.serve(bystander)
          yield* rehearse(point, saga)
        }), 150_000)
    }
  })
})
