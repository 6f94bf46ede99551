/** What is promised, how it is kept, the tests that would see it broken, and what breaks it. */
export interface Promised {
  readonly promise: string
  readonly kept: string
  /** A file below test/, and names of its tests as they are written there. */
  readonly tests: ReadonlyArray<readonly [file: string, ...names: ReadonlyArray<string>]>
  readonly breaks: string
}

const crashes = "a process that is killed at its worst moment, under load, loses and doubles nothing"
const instances = "${count} instances, killed, stopped and added in turn: nothing lost, nothing doubled, order kept"
const zombie = "frozen for longer than the lease and the session: it changes no row, moves no offset, sends nothing"
const lateAnswer = "a relay whose answer comes late changes nothing of what its heir holds"
const unsent = "a relay that froze with a claim that it had not sent never sends it, and says what it dropped"
const blocked = "an event loop that is blocked for longer than the lease and the session: another instance takes over"
const brokerCrashes = "the broker is killed, with it the group's coordinator, and comes back"
const cluster = "${delivery}: the broker that coordinates the group and leads a part of the topics is killed"
const model = "${sequences} sequences of records, settlements, relays, crashes: every step is as the model says"
const stops = "${signal}: finishes in time, keeps nothing back, and a second process ends the work without doubles"

export const promises: Readonly<Record<string, Promised>> = {
  P1: {
    promise:
      "No accepted record is lost: not by a crash at any point, not by a restart of any dependency, not by a rebalance.",
    kept:
      "The offset moves only when the database has committed and the dead letters are on their topic. Redis is told after the commit. An infrastructure failure is waited for with the batch in hand.",
    tests: [
      ["proof/CrashPoints.test.ts", crashes],
      ["proof/Service.test.ts", "killed and started again: nothing lost, nothing doubled, order kept", instances],
      [
        "proof/Postgres.test.ts",
        "PostgreSQL crashes and comes back",
        "every backend is terminated, again and again",
        "COMMIT fails by a deferred constraint",
        "the backend is killed at COMMIT"
      ],
      ["proof/Kafka.test.ts", "instances join and leave in the middle of a batch"],
      ["proof/Cluster.test.ts", cluster],
      ["proof/Redis.test.ts", "Redis is gone, and comes back", "Redis restarts"],
      ["inventory/Intake.test.ts", "Redis is told after the commit, and not at all when it fails"],
      [
        "infra/kafka/KafkaConsumer.test.ts",
        "a batch that is worked on holds up its partition alone, and no offset moves over it",
        "an offset that was not committed is committed later, also when no further record comes"
      ]
    ],
    breaks:
      "An offset that is committed before the transaction, or over a batch that is worked on; a key that is in Redis before its payment is."
  },
  P2: {
    promise: "One payment per order and one event per transition, whatever is redelivered.",
    kept:
      "Unique keys on the order and on the inventory key: a batch with a repeat is written again without it. A settlement locks the payment row, and writes an event only when it has moved it, in the same statement.",
    tests: [
      ["proof/model/Model.test.ts", model],
      ["proof/CrashPoints.test.ts", crashes],
      [
        "payments/Payments.test.ts",
        "any batches over few orders and keys: as the model says",
        "opposite outcomes raced: one wins, the other is told, one event",
        "a commit that fails is a failure, and leaves neither payment nor event"
      ],
      ["e2e/Scenario.test.ts", "no duplicate gives a second payment, and the metrics tell each kind"]
    ],
    breaks: "An event in a transaction of its own; an event for a payment that did not move."
  },
  P3: {
    promise:
      "Every committed event reaches `payment` at least once, and exactly once as long as no process or broker dies between the send and the mark.",
    kept:
      "An event is WAIT until the broker's acknowledgement is in the database. The producer is idempotent: an attempt without an answer is repeated with the same sequence numbers, and of several brokers none gets again what it has answered for. What was sent is held until it is marked, and no failure of another claim ends that.",
    tests: [
      ["proof/CrashPoints.test.ts", crashes],
      ["proof/Service.test.ts", "two instances, an hour fast and an hour slow: no lease that is alive is taken"],
      ["proof/Kafka.test.ts", brokerCrashes],
      [
        "proof/Cluster.test.ts",
        cluster,
        "a broker gives a partition away while others owe an answer: what they take is not sent to them again",
        "a broker takes nothing for all attempts: what others have taken is not sent with the next",
        "a broker refuses a record: what others have taken is not sent again when the rest is"
      ],
      [
        "outbox/leased/Relay.test.ts",
        "one refused record holds up nobody else, and nobody else is sent twice for it",
        "holds its lease until what it has sent is marked, however long the mark is on its way",
        "a look that fails takes nothing from what was sent and is being marked, and is made again"
      ]
    ],
    breaks: "A mark before the acknowledgement; an attempt that is repeated through another producer."
  },
  P4: {
    promise:
      "For one order, CREATED comes before the terminal event on the topic, also with many relays, retries, crashes and rebalances. A resend (same key) can come late only from a worker that froze between its last look at the lease and the bytes leaving it; delivery `exactly-once` excludes that too.",
    kept:
      "An event is claimed, or leased when it is written, only when all before it of its order are DONE. The body tells which comes first, not an id: a sequence may be set back. An order keeps the number of partitions that the topic had when its payment was created, so its events share one partition. A worker looks at its lease right before each attempt.",
    tests: [
      [
        "proof/ExactlyOnce.test.ts",
        "two relays, one killed and another added",
        "a relay stands still for longer than its lease, and believes that it owns what others have",
        "the delivery is changed on a live system, there and back"
      ],
      [
        "proof/ExactlyOnceFaults.test.ts",
        "a process dies at each of its moments, and another one goes on",
        "two instances meet every fault of the servers, of the network and of each other"
      ],
      ["proof/exactlyOnce/Replay.test.ts", "the real parts follow ${followed} schedules of the model, step by step"],
      ["proof/CrashPoints.test.ts", crashes],
      ["proof/Service.test.ts", instances, unsent],
      [
        "outbox/Outbox.test.ts",
        "only the head of an order can be claimed, and the next one after it is DONE",
        "under contention, an order's next event is never claimed before its first is DONE"
      ],
      [
        "outbox/Handover.test.ts",
        "an event waits in the table while an earlier one of its order is not done, and that is announced"
      ],
      [
        "outbox/SetBack.test.ts",
        "under a relay at work: CREATED comes first, and what has an id below its floor is found",
        "under an exactly-once relay at work: CREATED comes first, and each comes once"
      ],
      [
        "proof/Relays.test.ts",
        "a topic gets partitions, with both deliveries at work: orders stay, new ones use them all"
      ]
    ],
    breaks:
      "A claim that takes several events of an order; a sequence that caches ids; a suspended machine that runs a relay."
  },
  P5: {
    promise: "A resend carries the same key, body and `idempotent_key`.",
    kept: "The body is made once, when its row is inserted, and is sent as it is stored.",
    tests: [
      ["proof/CrashPoints.test.ts", crashes],
      ["proof/Service.test.ts", lateAnswer],
      ["audit/Audit.test.ts", "the last transition again with another key"]
    ],
    breaks: "A body, or a key, that is made when it is sent."
  },
  P6: {
    promise:
      "A lease that is alive is never taken; a dead one is taken after it ran out; a worker that lost its lease changes nothing. Lease time is the database's clock.",
    kept:
      "Claims compare with `clock_timestamp()`. Each claim has a random token, and every later statement names it. The worker counts its own time from before the claim, or from before the statement that wrote the events, by its monotonic clock.",
    tests: [
      ["proof/model/Model.test.ts", model],
      [
        "proof/Service.test.ts",
        zombie,
        lateAnswer,
        unsent,
        blocked,
        "two instances, an hour fast and an hour slow: no lease that is alive is taken",
        "a lease that is dead is taken, a refusal backs off for seconds, and only what is old is pruned"
      ],
      ["outbox/Outbox.test.ts", "a live lease is never taken, a dead one is, and who lost it changes nothing"],
      ["outbox/leased/Relay.test.ts", "a lease that nobody can renew ends here too"],
      [
        "outbox/Handover.test.ts",
        "a payment and a settlement hand over their events, under a lease that nobody else can take",
        "what was handed over longer ago than its lease is not sent"
      ]
    ],
    breaks: "A statement without the token; a lease that is compared with the clock of a worker."
  },
  P7: {
    promise: "One bad event or record never holds up another order.",
    kept:
      "Records that cannot be read become dead letters. What the broker refuses is found event by event, backs off, and is DEAD in the end; a claim passes over its order alone.",
    tests: [
      [
        "proof/strangers/Kafka.test.ts",
        "${strangers} of them, with good ones between: each becomes what it should, and nobody is held up"
      ],
      ["proof/Kafka.test.ts", "a record is too large: its order alone waits, and goes on when there is room"],
      ["proof/CrashPoints.test.ts", crashes],
      [
        "e2e/Scenario.test.ts",
        "a record that is no inventory event is a dead letter, byte for byte, and holds nobody up"
      ],
      ["outbox/Outbox.test.ts", "a dead event blocks its own order and no other"],
      ["outbox/leased/Relay.test.ts", "a topic that does not exist holds up no other, and burns no attempt"]
    ],
    breaks: "A batch that fails as a whole for one of its records."
  },
  P8: {
    promise: "A broker outage of any length loses nothing and sends nothing to the dead.",
    kept: "Only a refusal of this very record counts as an attempt. An outage is waited for, for as long as it takes.",
    tests: [
      ["proof/Kafka.test.ts", "the broker stands still for 40 s"],
      ["proof/Cluster.test.ts", cluster],
      ["proof/CrashPoints.test.ts", crashes],
      ["proof/Service.test.ts", zombie],
      ["proof/Kafka.test.ts", brokerCrashes],
      [
        "e2e/Start.test.ts",
        "Kafka arrives later: alive and not ready until then, and nobody has to start the program again"
      ]
    ],
    breaks: "An attempt that is counted when nobody has answered."
  },
  P9: {
    promise:
      "SIGTERM or SIGINT: stop taking work, finish what is in hand, give back what was not sent, leave the group, exit 0 within the limit.",
    kept:
      "Every part drains within 70 % of `SHUTDOWN_TIMEOUT`: statements end, offsets are committed, the answer that the broker owes is marked, the rest is released.",
    tests: [
      ["proof/Service.test.ts", instances],
      [
        "e2e/Stop.test.ts",
        stops,
        "a relay alone in its process: nothing is kept back, and nothing is sent twice",
        "a process that cannot stop in time ends at the limit, not with 0, and says so"
      ],
      ["outbox/leased/Relay.test.ts", "a stop lets the send in hand finish, and gives back what was not sent"],
      ["outbox/Handover.test.ts", "a stop gives back what was handed over and not sent"],
      ["grpc/Server.test.ts", "a stop: health says so, streams end, calls in hand finish"]
    ],
    breaks: "A stop that waits for nobody, or that ends the process under a claim."
  },
  P10: {
    promise: "Several instances of every part may run at once.",
    kept:
      "Partitions are shared by the consumer group, events by leases and SKIP LOCKED, payments by unique keys and row locks, migrations by an advisory lock.",
    tests: [
      [
        "proof/Service.test.ts",
        instances,
        "killed half-way through the migrations, beside others that start: they migrate, and take the load"
      ],
      [
        "outbox/Outbox.test.ts",
        "many workers at once: each event is claimed once, no claim is over its limit, all are oldest first"
      ],
      ["infra/postgres/Migrations.test.ts", "four processes migrate at once: one applies the migrations, all succeed"],
      [
        "payments/Payments.test.ts",
        "many at once over the same orders and keys: one payment for each, one event, and no deadlock is seen"
      ]
    ],
    breaks: "A claim that does not look at leases; rows that are locked in no order."
  },
  P11: {
    promise:
      "Every failure that a caller can act on is typed, and says what to do. Secrets and payloads never reach a log.",
    kept:
      "gRPC answers by the table of the contract, commands by their exit codes, settings by name, problem and example. Secrets are redacted where they are read.",
    tests: [
      ["proof/strangers/Grpc.test.ts", "${requests} requests: each has an answer, and others are served"],
      [
        "proof/strangers/Http.test.ts",
        "${requests} requests, then clients that are slow: all are sent away, and /livez answers"
      ],
      [
        "grpc/PaymentsApi.test.ts",
        "a database that is away: UNAVAILABLE in time, and OK when it is back",
        "a bug: INTERNAL without its cause, which is logged once as an error"
      ],
      ["e2e/Start.test.ts", "a bad configuration ends it with 2, and all problems are told at once, without secrets"],
      ["domain/InventoryEvent.test.ts", "names what is wrong, and quotes nothing of the payload"],
      ["infra/runtime/Setting.test.ts", "hides every password that a URL can hold"]
    ],
    breaks: "An error that is passed on with its cause; a URL that is logged as it was given."
  },
  P12: {
    promise:
      "Nothing stands still in silence: what makes no progress is not ready within 10 s, with the reason, in `/readyz`, a metric and one log line.",
    kept:
      "Each batch, claim and shard in hand is timed by a clock that never jumps. Lag comes from the ends of the partitions, also while nothing can be read. The database is probed for writes.",
    tests: [
      [
        "infra/runtime/Waiting.test.ts",
        "logs a wait at its start, once a minute and at its end: once for all steps, not for each attempt",
        "reports a step without an answer within ten seconds, and no short step"
      ],
      [
        "payments/Providers.test.ts",
        "read-only: not ready with the reason, reads go on; when it is writable again it is soon back"
      ],
      [
        "proof/Relays.test.ts",
        "a statement of an exactly-once relay is broken: it is counted and told, and ends the process"
      ]
    ],
    breaks: "A retry that reports to nobody; a probe that only reads."
  },
  P13: {
    promise:
      "No record, whatever its bytes, stops the service or another order: it is handled or parked within seconds, in time and memory proportional to its size.",
    kept:
      "The decoder takes linear time and hands out at most 8 MiB of a partition. Larger or broken records are parked with size, hash and reason. A refused dead letter is cut until its topic takes it.",
    tests: [
      [
        "infra/kafka/decode/KafkaBatches.test.ts",
        "whatever the bytes, reading ends, tells or reads each offset, and moves on",
        "a batch is told as one record when its checksum is wrong twice, and reading goes on behind it"
      ],
      [
        "infra/kafka/patches/FetchDecoder.test.ts",
        "40,000 records of one batch come in parts, all of them, in their order"
      ],
      ["inventory/InventoryConsumer.test.ts", "1,000 malformed records with 8 KB of headers each, then a good one"],
      [
        "proof/strangers/Kafka.test.ts",
        "${strangers} of them, with good ones between: each becomes what it should, and nobody is held up"
      ]
    ],
    breaks: "A decoder that recurses or backtracks; a bound that is checked after decoding."
  }
}
