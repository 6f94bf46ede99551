/** A promise, how it is kept, the tests that fail when it is broken, and what would break it. */
export interface Promised {
  readonly promise: string
  readonly kept: string
  /** A file below test/, and names of its tests as written there. A proof has the promise's id in a title. */
  readonly tests: ReadonlyArray<readonly [file: string, ...names: ReadonlyArray<string>]>
  readonly breaks: string
}

const crashes = "a process that is killed at its worst moment under load loses and doubles nothing"
const instances = "${count} instances, killed, stopped and added in turn: nothing lost, nothing doubled, order kept"
const zombie = "frozen for longer than the lease and the session: it changes no row, moves no offset, sends nothing"
const lateAnswer = "a relay whose answer comes late changes no event of its successor"
const unsent = "a relay that was frozen with an unsent claim never sends it, and logs the dropped events"
const blocked = "an event loop that is blocked for longer than the lease and the session: another instance takes over"
const brokerCrashes = "the broker is killed, with it the group's coordinator, and comes back"
const cluster = "${delivery}: the broker that coordinates the group and leads some partitions is killed"
const model = "${sequences} sequences of records, settlements, relays, crashes: every step agrees with the model"
const update = "as the chart says, under load: no call fails, no event is sent twice, nothing is lost"
const beside = "the program before ${migration} beside this one: no call fails, no event is sent twice, nothing is lost"
const stops = "${signal}: finishes in time, leaves no lease, and a second process completes the work without doubles"

const promoted = "the primary dies for good, and its synchronous standby is promoted: nothing acknowledged is lost"
const switched = "a planned switch-over under load, and the old primary comes back beside the new one: it gets nothing"
const rolled = "three brokers restart one after the other under load, with both deliveries: nothing is lost"

/** What no program can promise. */
export const limits: ReadonlyArray<{ readonly when: string; readonly may: string; readonly helps: string }> = [
  {
    when: "PostgreSQL: an asynchronous standby is promoted, or a backup is restored",
    may:
      "What the old primary acknowledged last is gone: payments, results, events. A call that comes before the repair can give an order the opposite result of the one on topic `payment`: the service cannot know of a result that its database lost.",
    helps:
      "`payments audit` names each order, and `payments recover` takes over from the topics what the database lost. Stop the services before the promotion, and start them after the repair. A synchronous standby loses nothing."
  },
  {
    when: "PostgreSQL: an asynchronous standby is promoted, and neither topic has the record",
    may:
      "A result that was acknowledged to a caller, and whose event had not reached topic `payment`, leaves no trace. The payment is `CREATED` again.",
    helps: "Nothing finds it but the caller, who knows the answer. A synchronous standby."
  },
  {
    when: "PostgreSQL: the old primary comes back as a second one (split brain)",
    may:
      "A process that has met the new primary, or can reach it when it starts, refuses the old one by its timeline. A process that reaches the old one alone goes on writing there. What it writes is lost when that server is given up.",
    helps:
      "The cluster manager must stop the old server (fencing). `payments audit` on the new primary names the records that the topics have and it lacks."
  },
  {
    when: "Kafka: unclean leader election, or the loss of all in-sync replicas",
    may: "Records that the broker acknowledged are gone from the topics.",
    helps:
      "`payments audit` reports `not-on-topic`, and `payments outbox replay --missing` sends them again. The producer must write lost inventory records again that no consumer had read. Keep `unclean.leader.election.enable=false`, three replicas and `min.insync.replicas=2`."
  },
  {
    when:
      "At least once: an instance reaches no broker for longer than `OUTBOX_LEASE`, and other relays publish meanwhile",
    may:
      "The others send again what it had sent without an answer: a record can come twice. While no other relay publishes anything, these events wait.",
    helps: "`OUTBOX_DELIVERY=exactly-once`."
  },
  {
    when: "An instance reaches some of the brokers, and not the others",
    may: "What it holds for the partitions of the others waits until it reaches them, or is stopped.",
    helps:
      "Stop it: the other instances have its partitions after `KAFKA_SESSION_TIMEOUT`, its events after `OUTBOX_LEASE`."
  },
  {
    when: "At least once: a process is killed while the network holds its packets back",
    may:
      "The operating system goes on sending for it. A record of the killed process can arrive after the resend, and after a later event of its order.",
    helps: "`OUTBOX_DELIVERY=exactly-once`: the brokers refuse the producer of the killed process."
  },
  {
    when: "PostgreSQL: a unique index is corrupt and does not say so",
    may: "A second payment of an order can be stored.",
    helps: "`amcheck` finds the index, `REINDEX` rebuilds it. `payments audit` reports `double` and `event-twice`."
  }
]

export const promises: Readonly<Record<string, Promised>> = {
  P1: {
    promise:
      "No accepted record is lost: not by a crash at any point, not by a restart of any dependency, not by a rebalance.",
    kept:
      "The consumer commits an offset only after the database has committed and the dead letters are on their topic. It writes to Redis after the commit. During an infrastructure failure it keeps the batch and repeats the step.",
    tests: [
      ["proof/long/CrashPoints.test.ts", crashes],
      ["proof/long/Service.test.ts", "killed and started again: nothing lost, nothing doubled, order kept", instances],
      [
        "proof/Postgres.test.ts",
        "PostgreSQL crashes and comes back",
        "every backend is terminated, again and again",
        "COMMIT fails by a deferred constraint",
        "the backend is killed at COMMIT"
      ],
      ["proof/Promotion.test.ts", promoted],
      ["proof/failover/SwitchOver.test.ts", switched],
      ["proof/Kafka.test.ts", "instances join and leave in the middle of a batch"],
      ["proof/failover/RollingBrokers.test.ts", rolled],
      ["proof/long/Cluster.test.ts", cluster],
      ["proof/Redis.test.ts", "Redis is gone, and comes back", "Redis restarts"],
      ["inventory/Intake.test.ts", "Redis remembers keys after the commit, and none when the commit fails"],
      [
        "infra/kafka/KafkaConsumer.test.ts",
        "a batch in progress delays only its partition, and no offset moves over it",
        "a failed commit is repeated, also without a further record"
      ]
    ],
    breaks:
      "An offset that is committed before the transaction, or beyond an unfinished batch; a key in Redis before its payment exists."
  },
  P2: {
    promise: "One payment per order and one event per transition, whatever is redelivered.",
    kept:
      "Unique keys on the order and on the inventory key: a batch with a repeat is written again without it. A settlement locks the payment row, and writes an event only when it changes the status, in the same statement.",
    tests: [
      ["proof/model/Model.test.ts", model],
      ["proof/long/CrashPoints.test.ts", crashes],
      [
        "payments/Payments.test.ts",
        "any batches over few orders and keys: as the model says",
        "concurrent opposite settlements: one succeeds, the other fails, one event",
        "a commit that fails is a failure, and leaves neither payment nor event"
      ],
      ["e2e/Scenario.test.ts", "no duplicate creates a second payment, and the metrics count each kind"]
    ],
    breaks: "An event in a transaction of its own; an event for a payment whose status did not change."
  },
  P3: {
    promise:
      "Every committed event reaches `payment` at least once, and exactly once as long as no process or broker dies between the send and the mark.",
    kept:
      "An event is WAIT until the database records the broker's acknowledgement. The producer is idempotent: it repeats an attempt without an answer with the same sequence numbers, and sends no broker the records that it has answered for. The relay keeps the lease of sent events until they are marked; no failure of another claim ends that.",
    tests: [
      ["proof/long/CrashPoints.test.ts", crashes],
      ["proof/long/Clocks.test.ts", "two instances, an hour fast and an hour slow: no lease that is alive is taken"],
      ["proof/Kafka.test.ts", brokerCrashes],
      [
        "proof/long/Cluster.test.ts",
        cluster,
        "a broker loses a partition while others have not answered: their records are not sent again",
        "one broker fails all attempts: records that others took are not sent with the next batch",
        "a broker refuses a record: records that others took are not sent again with the rest"
      ],
      [
        "outbox/leased/Relay.test.ts",
        "a refused record delays no other event, and no other event is sent twice",
        "keeps its lease until the events that it sent are marked, also when the mark is slow",
        "a failed claim interrupts no mark of sent events, and is repeated"
      ]
    ],
    breaks: "A mark before the acknowledgement; an attempt repeated through another producer."
  },
  P4: {
    promise:
      "For one order, CREATED comes before the terminal event on the topic, also with many relays, retries, crashes and rebalances. A resend (same key) can come late only from a worker that froze between its last look at the lease and the bytes leaving it; delivery `exactly-once` excludes that too.",
    kept:
      "An event is claimed, or leased when it is written, only when all earlier events of its order are DONE. The body defines which comes first, not an id: a sequence may be set back. An order keeps the number of partitions that the topic had when its payment was created, so its events share one partition. A worker checks its lease right before each attempt. A producer that is given up resets its connections: records that wait there to be sent are dropped.",
    tests: [
      [
        "proof/ExactlyOnce.test.ts",
        "a relay is frozen for longer than its lease, and goes on as if it owned its shards"
      ],
      [
        "proof/long/ExactlyOnce.test.ts",
        "two relays, one killed and another added",
        "the delivery is changed on a running system, and changed back"
      ],
      [
        "proof/long/ExactlyOnceFaults.test.ts",
        "a process dies at each crash point, and another one goes on",
        "two instances meet every fault of servers, network and instances"
      ],
      ["proof/exactlyOnce/Replay.test.ts", "the real parts follow ${followed} schedules of the model, step by step"],
      ["proof/long/CrashPoints.test.ts", crashes],
      ["proof/long/Service.test.ts", instances, unsent],
      [
        "outbox/Outbox.test.ts",
        "only the head of an order can be claimed, and the next one after it is DONE",
        "under contention, an order's next event is never claimed before its first is DONE"
      ],
      [
        "outbox/Dispatch.test.ts",
        "an event waits in the table while an earlier one of its order is not DONE, and the relay is woken"
      ],
      [
        "infra/kafka/KafkaSockets.test.ts",
        "what waits to be sent on a %s connection is dropped with its client"
      ],
      [
        "outbox/SetBack.test.ts",
        "under a running relay: CREATED comes first, and events with ids below its cursor are found",
        "under a running exactly-once relay: CREATED comes first, and each comes once"
      ],
      [
        "proof/long/Relays.test.ts",
        "a topic gets partitions, with both deliveries running: orders stay, new ones use them all"
      ]
    ],
    breaks:
      "A claim that takes several events of an order; a sequence that caches ids; a suspended machine that runs a relay."
  },
  P5: {
    promise: "A resend carries the same key, body and `idempotent_key`.",
    kept: "The body is made once, when its row is inserted, and sent as it is stored.",
    tests: [
      ["proof/long/CrashPoints.test.ts", crashes],
      ["proof/long/Service.test.ts", lateAnswer],
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
        "proof/long/Service.test.ts",
        zombie,
        lateAnswer,
        unsent
      ],
      [
        "proof/long/Clocks.test.ts",
        blocked,
        "two instances, an hour fast and an hour slow: no lease that is alive is taken",
        "a lease that is dead is taken, a refusal backs off for seconds, and only what is old is pruned"
      ],
      ["outbox/Outbox.test.ts", "a live lease is never taken, a dead one is, and its former worker changes nothing"],
      ["outbox/leased/Relay.test.ts", "a lease that cannot be renewed ends in the worker too"],
      [
        "outbox/Dispatch.test.ts",
        "creation and settlement dispatch their events, under a lease that no other relay can take",
        "events that were dispatched longer ago than their lease are not sent"
      ]
    ],
    breaks: "A statement without the token; a lease that is compared with the clock of a worker."
  },
  P7: {
    promise: "One bad event or record never holds up another order.",
    kept:
      "Records that cannot be read become dead letters. The relay isolates a refused event; it backs off, and is DEAD in the end; claims leave out only its order.",
    tests: [
      [
        "proof/strangers/Kafka.test.ts",
        "${strangers} of them, with good ones between: each gets its result, and no order is delayed"
      ],
      ["proof/Kafka.test.ts", "a record is too large: only its order waits, and goes on when the topic takes it"],
      ["proof/long/CrashPoints.test.ts", crashes],
      [
        "e2e/Scenario.test.ts",
        "a record that is no inventory event becomes a dead letter, byte for byte, and blocks no other record"
      ],
      ["outbox/Outbox.test.ts", "a dead event blocks its own order and no other"],
      ["outbox/leased/Relay.test.ts", "a missing topic delays no other topic, and counts no attempt"]
    ],
    breaks: "A batch that fails as a whole for one of its records."
  },
  P8: {
    promise: "A broker outage of any length loses nothing and sends nothing to the dead.",
    kept:
      "Only a refusal of this record counts as an attempt. The relay waits for the end of an outage, however long it is.",
    tests: [
      ["proof/Kafka.test.ts", "the broker stands still for 40 s"],
      ["proof/failover/RollingBrokers.test.ts", rolled],
      [
        "infra/kafka/KafkaConsumer.test.ts",
        "the coordinator goes away while a member joins again: the member joins at the next one"
      ],
      ["proof/long/Cluster.test.ts", cluster],
      ["proof/long/CrashPoints.test.ts", crashes],
      ["proof/long/Service.test.ts", zombie],
      ["proof/Kafka.test.ts", brokerCrashes],
      [
        "e2e/Start.test.ts",
        "Kafka starts later: alive and not ready until then, without a restart of the program"
      ]
    ],
    breaks: "An attempt that is counted without an answer of the broker."
  },
  P9: {
    promise:
      "SIGTERM or SIGINT: stop taking work, finish what is in hand, give back what was not sent, leave the group, exit 0 within the limit.",
    kept:
      "Every part drains within 70 % of `SHUTDOWN_TIMEOUT`: statements end, offsets are committed, acknowledged events are marked, the other leases are released.",
    tests: [
      ["proof/long/Service.test.ts", instances],
      [
        "e2e/Stop.test.ts",
        stops,
        "a relay alone in its process: no lease is left behind, and nothing is sent twice",
        "a process that cannot stop in time ends at the limit, with 1 and an error"
      ],
      ["outbox/leased/Relay.test.ts", "a stop finishes the send in hand, and releases unsent events"],
      ["outbox/Dispatch.test.ts", "a stop releases dispatched events that were not sent"],
      ["grpc/Server.test.ts", "a stop: health is NOT_SERVING, streams end, running calls finish"],
      [
        "proof/RollingUpdate.test.ts",
        "each pod is replaced under load: no call fails, no event is sent twice, nothing is lost"
      ],
      ["proof/long/RollingUpdate.test.ts", update]
    ],
    breaks: "A stop that does not wait for running work."
  },
  P10: {
    promise: "Several instances of every part may run at once.",
    kept:
      "Partitions are shared by the consumer group, events by leases and SKIP LOCKED, payments by unique keys and row locks, migrations by an advisory lock. An instance that reaches no broker, or not the database, leaves to the others what it holds.",
    tests: [
      [
        "proof/failover/Machine.test.ts",
        "${delivery}: four instances, one is cut off from the database, from the broker, from both, and healed: the others go on"
      ],
      [
        "proof/long/Service.test.ts",
        instances,
        "killed in the middle of the migrations, beside other instances that start: they migrate and take the load"
      ],
      [
        "outbox/Outbox.test.ts",
        "many workers at once: each event is claimed once, no claim is over its limit, all are oldest first"
      ],
      ["infra/postgres/Migrations.test.ts", "four processes migrate at once: one applies the migrations, all succeed"],
      [
        "payments/Payments.test.ts",
        "concurrent reservations of the same orders and keys: one payment and one event each, and no deadlock"
      ],
      ["proof/long/RollingUpdate.test.ts", update],
      ["proof/long/OldBesideNew.test.ts", beside]
    ],
    breaks: "A claim that ignores leases; rows that are locked in no order."
  },
  P11: {
    promise:
      "Every failure that a caller can act on is typed, and says what to do. Secrets and payloads never reach a log.",
    kept:
      "gRPC answers by the table of the contract, commands by their exit codes, settings by name, problem and example. Secrets are redacted where the program reads them.",
    tests: [
      ["proof/strangers/Grpc.test.ts", "${requests} requests: each gets an answer, and others are served"],
      [
        "proof/strangers/Http.test.ts",
        "${requests} requests, then slow clients: all are disconnected, and /livez answers"
      ],
      [
        "proof/long/Handshakes.test.ts",
        "${connections} to ${surface} that are cut, slow, endless, broken or begun again: each ends, and others are served"
      ],
      [
        "grpc/PaymentsApi.test.ts",
        "a database that is away: UNAVAILABLE in time, and OK when it is back",
        "a bug: INTERNAL without its cause, which is logged once as an error"
      ],
      ["e2e/Start.test.ts", "a bad configuration ends it with 2, and reports all problems at once, without secrets"],
      ["domain/InventoryEvent.test.ts", "names the fault, and quotes nothing of the payload"],
      ["infra/runtime/Setting.test.ts", "hides every password that a URL can hold"]
    ],
    breaks: "An error that is answered with its cause; a URL that is logged as given."
  },
  P12: {
    promise:
      "Nothing stands still in silence: what makes no progress is not ready within 10 s, with the reason, in `/readyz`, a metric and one log line.",
    kept:
      "The monotonic clock times each batch, claim and shard in hand. Lag comes from the committed offsets and the ends of the partitions, also while nothing can be read. A probe checks that the database takes writes.",
    tests: [
      [
        "infra/runtime/Health.test.ts",
        "logs a wait for a server once for all parts: at its start, once a minute, and at its end with its time",
        "reports work without an answer within ten seconds, and no short work"
      ],
      [
        "e2e/Stalled.test.ts",
        "a deleted dead-letter topic: /readyz, payments_stalled and one log line say so, paying goes on, and no payload or secret is logged"
      ],
      [
        "payments/Providers.test.ts",
        "read-only: not ready with the reason, reads work; ready within seconds when it is writable again"
      ],
      [
        "proof/long/Relays.test.ts",
        "a statement of an exactly-once relay is broken: it is counted and logged, and ends the process"
      ]
    ],
    breaks: "A retry without a report; a probe that only reads."
  },
  P13: {
    promise:
      "No record, whatever its bytes, stops the service or another order: it is handled or parked within seconds, in time and memory proportional to its size.",
    kept:
      "The decoder takes linear time and hands out at most 8 MiB of a partition. Larger or broken records are parked with size, hash and reason. A refused dead letter is cut until its topic takes it.",
    tests: [
      [
        "infra/kafka/decode/KafkaBatches.test.ts",
        "any bytes: reading ends, accounts for each offset, and moves on",
        "a batch whose checksum is wrong twice becomes one record, and the records after it are read"
      ],
      [
        "infra/kafka/patches/FetchDecoder.test.ts",
        "40,000 records of one batch arrive in several parts, complete and in order"
      ],
      ["inventory/InventoryConsumer.test.ts", "1,000 malformed records with 8 KB of headers each, then a good one"],
      [
        "proof/strangers/Kafka.test.ts",
        "${strangers} of them, with good ones between: each gets its result, and no order is delayed"
      ]
    ],
    breaks: "A decoder that recurses or backtracks; a bound that is checked after decoding."
  },
  P14: {
    promise:
      "Where authentication is on, nobody reads or changes a payment, an event or a dead letter without the right to; who did is recorded.",
    kept:
      "Each call has a scope, and is admitted before its handler runs. The name of its caller is written in the statement that settles. Operators give a name and a reason, kept in table operation.",
    tests: [
      [
        "grpc/Secured.test.ts",
        "tokens: the scopes of each call, and a token that is revoked",
        "JWT: signature, issuer, audience, expiry, scopes, and keys that are replaced",
        "client certificates: the names that are allowed, with their scopes",
        "callers in one group are stored each with its payment, and a call without a name stores none"
      ],
      [
        "proof/long/Secured.test.ts",
        "certificate and password are replaced, a process is killed, the delivery changes: every order once, every call with its caller"
      ],
      [
        "cli/Listening.test.ts",
        "another address is refused with its variable and the way out, unless INSECURE allows it"
      ]
    ],
    breaks:
      "A call without its scope; a name that is taken from the request; a group that stores the name of one for all."
  }
}
