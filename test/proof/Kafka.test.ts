import { assert, it, layer } from "@effect/vitest"
import { Effect } from "effect"
import { eventually } from "../harness/Eventually.js"
import * as Restartable from "../harness/Restartable.js"
import * as Topics from "../harness/Topics.js"
import * as Impostor from "./Impostor.js"
import * as Rival from "./Rival.js"
import * as Saga from "./Saga.js"

const limit = 240_000
const options = { timeout: "120 seconds", excludeTestServices: true } as const

const start = Effect.fnUntraced(function*(options: Saga.SagaOptions = {}) {
  const saga = yield* Saga.make(options)
  const program = yield* saga.serve()
  yield* program.untilReady
  return { saga, program } as const
})

/** Services that are ready, and their broker, which nobody else uses. */
class Alone extends Effect.Service<Alone>()("test/Alone", {
  scoped: Effect.gen(function*() {
    const kafka = yield* Restartable.make("kafka")
    // shorter than the outage, and long enough for renewals on a busy machine: an event whose lease ends is sent again
    return { kafka, ...yield* start({ servers: { kafkaBrokers: kafka.url }, env: { OUTBOX_LEASE: "15s" } }) }
  })
}) {}

/** Services that are ready. They give up early, and take few events at a time. */
class Together extends Effect.Service<Together>()("test/Together", {
  // a topic that a test deletes stays away until the test creates it
  scoped: start({ env: { OUTBOX_BATCH_SIZE: "10", OUTBOX_MAX_ATTEMPTS: "2", KAFKA_CREATE_TOPICS: "false" } })
}) {}

/** An outage of any length sends nothing to the dead but what is malformed, and is no attempt of any event. */
const nothingDead = Effect.fnUntraced(function*({ tables, topics, world }: Saga.Saga, malformed: number) {
  assert.strictEqual(yield* tables.count("event WHERE attempts > 0"), 0)
  const letters = yield* topics.follow(world.dlq)
  yield* Effect.sync(() => assert.isAtLeast(letters.length, malformed)).pipe(eventually())
  for (const { value } of letters) assert.strictEqual(String(value), "no event")
}, Effect.scoped)

layer(Alone.Default, options)("P1 P3 P8: a broker", (it) => {
  it.scoped("the broker stands still for 40 s", () =>
    Effect.gen(function*() {
      const { kafka, saga } = yield* Alone
      const paidMeanwhile = 900_000_001
      yield* saga.reserved(paidMeanwhile)
      // red when a relay gives up events without an answer while no other one goes on: the broker has them when it goes on
      const [verdict] = yield* saga.outlives(
        Effect.acquireUseRelease(
          kafka.freeze,
          () => Effect.zipRight(saga.ask(paidMeanwhile), Effect.sleep("40 seconds")),
          () => kafka.thaw
        ),
        Saga.noResends
      )
      yield* nothingDead(saga, verdict.inventory.malformed)
    }), limit)

  it.scoped("the broker is killed, with it the group's coordinator, and comes back", () =>
    Effect.gen(function*() {
      const { kafka, program, saga } = yield* Alone
      const [verdict] = yield* saga.outlives(kafka.restart)
      yield* nothingDead(saga, verdict.inventory.malformed)
      yield* program.untilReady
    }), limit)
})

/** The last words of an order in each partition: to read them twice does no harm. */
const lastWords = (records: ReadonlyArray<Topics.Read>) => {
  const words = [0, 1, 2, 3].flatMap((partition) =>
    records.filter((record) => record.partition === partition && Topics.body(record).status !== "CREATED").slice(-1)
  )
  assert.lengthOf(words, 4)
  return words
}

const producerOf = (record: Topics.Read) => Impostor.authorOf(record).producerId

it.scopedLive(
  "the broker has forgotten the producer: a new producer goes on, nothing is lost",
  () =>
    Effect.gen(function*() {
      const kafka = yield* Restartable.make("kafka", {
        kafkaProperties: { "producer.id.expiration.ms": "500", "producer.id.expiration.check.interval.ms": "100" }
      })
      const { program, saga } = yield* start({ servers: { kafkaBrokers: kafka.url } })
      const { kafkaBrokers, payment } = saga.world
      const records = yield* saga.topics.follow(payment)
      yield* saga.outlives(Effect.void, Saga.noResends)
      // an idle second is the fault; what was forgotten is then kept
      yield* Effect.sleep("1 second")
      yield* saga.topics.configureBroker("1", "producer.id.expiration.ms", "86400000")
      const spoken = lastWords(records)
      // the broker takes any sequence number of a producer that it does not know, and of this one it now knows the first
      for (const record of spoken) yield* Impostor.writeAs(kafkaBrokers, payment, record, Impostor.authorOf(record))
      const known = new Set(records.map(producerOf))
      const [{ found }] = yield* saga.outlives(
        Effect.sync(() => assert.isTrue(records.some((record) => !known.has(producerOf(record))), "nobody else writes"))
          .pipe(eventually("60 seconds"))
      )
      // ours, and what was in one request with a record that the broker did not take
      assert.deepStrictEqual(Object.keys(found), ["resend"])
      assert.notInclude(program.stderr(), "a bug ended the service")
    }),
  limit
)

layer(Together.Default, options)("P1 P7: a broker with many worlds", (it) => {
  it.scoped("a topic is missing: its events wait, and count no attempt", () =>
    Effect.gen(function*() {
      const { program, saga } = yield* Together
      const { payment } = saga.world
      yield* saga.topics.remove(payment)
      const running = yield* saga.load
      // orders are taken and settled all the same, and events were given back
      yield* saga.more()
      yield* Effect.tap(program.metric("payments_events_retried_total"), (n) => assert.isAbove(n, 0)).pipe(
        eventually()
      )
      assert.strictEqual(yield* saga.tables.count("event WHERE status <> 'WAIT' OR attempts > 0"), 0)
      yield* saga.topics.create(payment)
      yield* saga.more()
      yield* saga.judge(running, Saga.noResends)
    }), limit)

  it.scoped(
    "a record is too large: only its order waits, and goes on when the topic takes it",
    () =>
      Effect.gen(function*() {
        const { saga } = yield* Together
        const { tables, topics, world } = saga
        const large = saga.begun() + 40
        // a header may be of any size; the body is fixed
        yield* tables.query(`
        CREATE FUNCTION enlarge() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
          NEW.traceparent := repeat('x', 9000);
          -- what is handed over is not read from the table
          NEW.lease_token := NULL;
          NEW.reserved_to := NULL;
          RETURN NEW;
        END $$;
        CREATE TRIGGER enlarge BEFORE INSERT ON event FOR EACH ROW
          WHEN (NEW.order_id = ${large} AND NEW.payload LIKE '%CREATED%') EXECUTE FUNCTION enlarge();
      `)
        yield* topics.configure(world.payment, "max.message.bytes", "6000")
        const states = Effect.map(tables.events(large), (events) => events.map(({ status }) => status))
        yield* saga.outlives(
          Effect.gen(function*() {
            yield* Effect.tap(states, (now) => assert.deepStrictEqual(now, ["DEAD", "WAIT"])).pipe(
              eventually("90 seconds")
            )
            // two claims later
            yield* saga.more()
            assert.deepStrictEqual(yield* states, ["DEAD", "WAIT"])
            assert.strictEqual(yield* tables.count(`event WHERE attempts > 0 AND order_id <> ${large}`), 0)
            // what an operator does
            yield* topics.configure(world.payment, "max.message.bytes", "20000")
            yield* tables.query(
              "UPDATE event SET status = 'WAIT', attempts = 0, reserved_to = NULL WHERE status = 'DEAD'"
            )
            yield* Effect.tap(states, (now) => assert.deepStrictEqual(now, ["DONE", "DONE"])).pipe(
              eventually("60 seconds")
            )
          }),
          Saga.noResends
        )
      }),
    limit
  )

  it.scoped(
    "the broker fences the producer: a new producer goes on, in order",
    () =>
      Effect.gen(function*() {
        const { program, saga } = yield* Together
        const { kafkaBrokers, payment } = saga.world
        const records = yield* saga.topics.follow(payment)
        yield* saga.outlives(Effect.gen(function*() {
          const known = records.length
          const spoken = lastWords(records)
          for (const record of spoken) {
            const author = Impostor.authorOf(record)
            yield* Impostor.writeAs(kafkaBrokers, payment, record, {
              ...author,
              producerEpoch: author.producerEpoch + 1
            })
          }
          const before = new Set(spoken.map(producerOf))
          yield* saga.more(50)
          // somebody else writes now
          yield* Effect.sync(() =>
            assert.isTrue(records.slice(known).some((record) => !before.has(producerOf(record))))
          ).pipe(eventually("60 seconds"))
        }))
        assert.notInclude(program.stderr(), "a bug ended the service")
      }),
    limit
  )

  it.scoped("instances join and leave in the middle of a batch", () =>
    Effect.gen(function*() {
      const { program, saga } = yield* Together
      const rival = yield* Rival.make(saga.world.databaseUrl)
      yield* saga.outlives(Effect.gen(function*() {
        // what is in hand now stays in hand
        yield* rival("BEGIN")
        yield* rival("LOCK TABLE payment IN EXCLUSIVE MODE")
        yield* saga.tables.count(
          "pg_stat_activity WHERE query LIKE '%INSERT INTO payment%' AND wait_event_type = 'Lock'"
        ).pipe(Effect.tap((n) => assert.isAtLeast(n, 1)), eventually("60 seconds"))
        const second = yield* saga.serve()
        const third = yield* saga.serve(["consumer"])
        const members = saga.topics.members(saga.world.group)
        yield* Effect.tap(members, (n) => assert.strictEqual(n, 3)).pipe(eventually("60 seconds"))
        yield* rival("COMMIT")
        yield* saga.more(30)
        yield* program.signal("SIGTERM")
        yield* third.signal("SIGTERM")
        assert.deepStrictEqual([(yield* program.ended).code, (yield* third.ended).code], [0, 0])
        yield* second.untilReady
        yield* saga.more(30)
      }))
    }), limit)
})
