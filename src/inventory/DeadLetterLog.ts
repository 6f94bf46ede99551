import { Effect } from "effect"
import * as Digest from "../infra/runtime/Digest.js"
import type { DeadLetter } from "./DeadLetter.js"

/**
 * Logs written dead letters, each in the count of one line: their number, and place and reason of three. Never a key, a value or
 * a header.
 */
export const make = (dlqTopic: string) =>
  Effect.map(
    Digest.make<{ readonly partition: number; readonly offset: string; readonly reason: string }>(
      ({ count, examples }) =>
        Effect.annotateLogs(
          Effect.logWarning(
            count === 1 ? "a record became a dead letter" : `${count} records became dead letters`
          ),
          { dead_letter_topic: dlqTopic, count, examples }
        )
    ),
    (add) => (letters: ReadonlyArray<DeadLetter>) => {
      for (const { offset, partition, reason } of letters) add({ partition, offset, reason })
    }
  )
