import { Duration, Option } from "effect"
import type { ConfigOf } from "../Config.js"
import type { Fault, Result } from "./Finding.js"
import { at, when } from "./Finding.js"

const { judge } = at("settings")

/** Longest time that a request to a broker waits for its answer (`KafkaClient`). */
const request = Duration.seconds(10)

const show = Duration.format

/** The settings of all parts; those of parts that do not run are missing. */
export type TimesConfig = ConfigOf<
  | "outboxLease"
  | "shutdownTimeout"
  | "outboxRetention"
  | "outboxPollInterval"
  | "dedupeTtl"
  | "kafkaSessionTimeout"
  | "paymentExpiry"
>

const ofRelay = (config: TimesConfig): ReadonlyArray<Result> => {
  const { outboxLease, outboxPollInterval, outboxRetention, paymentExpiry } = config
  return [
    judge(
      "times.lease",
      `OUTBOX_LEASE is ${show(outboxLease)}; a request to a broker may take ${show(request)}`,
      when(
        Duration.lessThan(outboxLease, request),
        "while the database does not answer, a lease ends before the broker has answered: another worker sends the events again",
        "set OUTBOX_LEASE to 20s or more"
      )
    ),
    judge(
      "times.poll",
      `OUTBOX_POLL_INTERVAL is ${show(outboxPollInterval)}, OUTBOX_LEASE ${show(outboxLease)}`,
      when(
        Duration.greaterThan(outboxPollInterval, outboxLease),
        "the events of a relay that died wait for the poll, longer than for the end of their lease",
        `set OUTBOX_POLL_INTERVAL to ${show(outboxLease)} or less`
      )
    ),
    judge(
      "times.retention",
      `OUTBOX_RETENTION is ${show(outboxRetention)}`,
      when(
        Duration.lessThan(outboxRetention, "1 day"),
        "events that are older cannot be announced again after a loss of the topic, nor audited",
        "set OUTBOX_RETENTION to the retention of the payment topic (7d)"
      )
    ),
    ...Option.match(paymentExpiry, {
      onNone: () => [],
      onSome: (expiry) => [judge(
        "times.expiry",
        `PAYMENT_EXPIRY is ${show(expiry)}, OUTBOX_LEASE ${show(outboxLease)}`,
        when(
          Duration.lessThan(expiry, Duration.times(outboxLease, 2)),
          "after the death of a relay, a payment may expire before its CREATED event is published",
          `set PAYMENT_EXPIRY to ${show(Duration.times(outboxLease, 2))} or more`
        )
      )]
    })
  ]
}

const drain = ({ outboxLease, shutdownTimeout }: TimesConfig, drain: Duration.Duration): Result => {
  const fault: Fault = {
    consequence: `a stop may leave events whose sending is undecided: they are due after OUTBOX_LEASE (${
      show(outboxLease)
    }), and may be sent twice`,
    remedy: "set SHUTDOWN_TIMEOUT to 15s or more"
  }
  return judge(
    "times.drain",
    `a stop gives work in hand ${show(drain)} of SHUTDOWN_TIMEOUT ${
      show(shutdownTimeout)
    }; a request to a broker may take ${show(request)}`,
    Duration.lessThan(drain, request) ? fault : undefined
  )
}

const dedupe = ({ dedupeTtl, kafkaSessionTimeout }: TimesConfig): Result =>
  judge(
    "times.dedupe",
    `DEDUPE_TTL is ${show(dedupeTtl)}; KAFKA_SESSION_TIMEOUT is ${show(kafkaSessionTimeout)}`,
    when(
      Duration.lessThan(dedupeTtl, Duration.max("10 minutes", Duration.times(kafkaSessionTimeout, 2))),
      "Redis forgets records before another consumer reads them again: each costs the database a look",
      "set DEDUPE_TTL to the retention of the inventory topic (7d)"
    )
  )

/**
 * Checks the times of the settings against each other and against fixed times of the service. `drainTime` is the part of
 * SHUTDOWN_TIMEOUT in which work may finish.
 */
export const check = (
  config: TimesConfig,
  { consumes, drainTime, relays }: {
    readonly consumes: boolean
    readonly relays: boolean
    readonly drainTime: Duration.Duration
  }
): ReadonlyArray<Result> => [
  ...(relays ? [...ofRelay(config), drain(config, drainTime)] : []),
  ...(consumes ? [dedupe(config)] : [])
]
