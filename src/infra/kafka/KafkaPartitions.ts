import { Effect } from "effect"
import type { KafkaOptions, KafkaUnavailable } from "./KafkaClient.js"
import { attempt, reason, withAdmin } from "./KafkaClient.js"

/** Errors of a broker for a topic that does not exist, or that we must not see. */
const hidden = new Set(["UNKNOWN_TOPIC_OR_PARTITION", "TOPIC_AUTHORIZATION_FAILED", "INVALID_TOPIC_EXCEPTION"])

/**
 * Asks the brokers for the number of partitions of topics, again after each `pause`, and calls `tell` with it; undefined for a
 * missing topic. Fails when no broker answers, or when `tell` fails.
 */
export const follow = <E>(
  options: KafkaOptions,
  topics: () => Iterable<string>,
  pause: Effect.Effect<void>,
  tell: (topic: string, partitions: number | undefined) => Effect.Effect<void, E>
): Effect.Effect<never, E | KafkaUnavailable> =>
  withAdmin(options, (admin) => {
    const one = (topic: string) =>
      attempt(() => admin.fetchTopicMetadata({ topics: [topic] })).pipe(
        Effect.map(({ topics: [found] }) => found?.partitions.length),
        Effect.catchIf(({ cause }) => hidden.has(reason(cause)), () => Effect.succeed(undefined)),
        Effect.flatMap((partitions) => tell(topic, partitions))
      )
    return Effect.suspend(() => Effect.forEach([...topics()], one, { discard: true })).pipe(
      Effect.zipRight(pause),
      Effect.forever
    )
  })
