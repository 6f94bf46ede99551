import { Effect } from "effect"
import type { KafkaOptions, KafkaUnavailable } from "./KafkaClient.js"
import { attempt, reason, withAdmin } from "./KafkaClient.js"

/** Whether a broker has answered with this error: it has a code of the protocol, like `UNKNOWN_TOPIC_OR_PARTITION`. */
const isAnswer = ({ cause }: KafkaUnavailable) => /^[A-Z][A-Z_]+$/.test(reason(cause))

/**
 * Asks the brokers for the number of partitions of topics, again after each `pause`, and calls `tell` with it; undefined where
 * a broker answers with an error, because the topic is missing for example. Fails when no broker answers, or when `tell` fails.
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
        Effect.catchIf(isAnswer, () => Effect.succeed(undefined)),
        Effect.flatMap((partitions) => tell(topic, partitions))
      )
    return Effect.suspend(() => Effect.forEach([...topics()], one, { discard: true })).pipe(
      Effect.zipRight(pause),
      Effect.forever
    )
  })
