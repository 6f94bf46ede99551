import { Duration, Either } from "effect"
import type { ConfigOf } from "../Config.js"
import type { Description } from "../infra/kafka/KafkaDescription.js"
import type { Result } from "./Finding.js"
import { at, millis, when } from "./Finding.js"

const { judge, notChecked } = at("kafka")

const day = 24 * 60 * 60 * 1_000

export interface GroupAsked {
  readonly config: ConfigOf<"kafkaGroupId" | "kafkaSessionTimeout" | "outboxLease" | "outboxDelivery">
  /** The process has a consumer of topic `inventory`. */
  readonly consumes: boolean
  /** The process has a relay. */
  readonly relays: boolean
}

/** Checks the time-outs of the group and of transactions against the limits of the brokers. */
const ofBroker = ({ config, consumes, relays }: GroupAsked, settings: ReadonlyMap<string, string>) => {
  const number = (name: string) => Number(settings.get(name))
  const [least, most] = [number("group.min.session.timeout.ms"), number("group.max.session.timeout.ms")]
  const kept = number("offsets.retention.minutes") * 60_000
  const lease = Duration.toMillis(config.outboxLease)
  const longest = number("transaction.max.timeout.ms")
  const exactlyOnce = config.outboxDelivery === "exactly-once"
  const ofSession = () => {
    const session = Duration.toMillis(config.kafkaSessionTimeout)
    return judge(
      "group.session",
      `KAFKA_SESSION_TIMEOUT is ${millis(session)}; the brokers take ${millis(least)} to ${millis(most)}`,
      when(
        session < least || session > most,
        "the brokers refuse the consumer (INVALID_SESSION_TIMEOUT), and no inventory record is read",
        `set KAFKA_SESSION_TIMEOUT between ${millis(least)} and ${millis(most)}`
      )
    )
  }
  const results: ReadonlyArray<Result | false> = [
    // a process without a consumer has no KAFKA_SESSION_TIMEOUT
    consumes && ofSession(),
    (consumes || exactlyOnce) && judge(
      "group.offsets_retention",
      `offsets.retention.minutes is ${kept / 60_000} (${millis(kept)})`,
      when(
        kept < day,
        exactlyOnce
          ? "the brokers forget the number of an idle shard, which is committed every 12 h: the shard gets stuck"
          : `a consumer that is away for longer than ${millis(kept)} reads the topic from its beginning again`,
        "set offsets.retention.minutes of the brokers to 10080 (7 days)"
      )
    ),
    relays && exactlyOnce && judge(
      "transactions.timeout",
      `OUTBOX_LEASE is ${millis(lease)}; transaction.max.timeout.ms of the brokers is ${millis(longest)}`,
      when(
        lease > longest,
        "the brokers refuse the relay's transactions (INVALID_TRANSACTION_TIMEOUT), and nothing is published",
        `set OUTBOX_LEASE to ${millis(longest)} or less`
      )
    )
  ]
  return results.filter((result) => result !== false)
}

/** Checks the consumer group and the brokers' limits. */
export const check = (asked: GroupAsked, { broker, group }: Description): ReadonlyArray<Result> => [
  ...Either.match(broker, {
    onLeft: (error) => [
      notChecked("broker.settings", `settings of the brokers: ${error} (grant DescribeConfigs on the cluster)`)
    ],
    onRight: (settings) => ofBroker(asked, settings)
  }),
  ...(group === undefined
    ? []
    : Either.match(group, {
      onLeft: (error) => [
        notChecked("group.state", `group ${asked.config.kafkaGroupId}: ${error} (grant Describe on the group)`)
      ],
      onRight: ({ members, state }) => [
        judge(
          "group.state",
          state === "Dead"
            ? `group ${asked.config.kafkaGroupId} has no members and no positions yet`
            : `group ${asked.config.kafkaGroupId} is ${state} with ${members} members`,
          undefined
        )
      ]
    }))
]
