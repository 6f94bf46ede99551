import { Either } from "effect"
import type { Filed } from "./Filed.js"
import * as Letters from "./Letter.js"
import type { Why } from "./Plan.js"

/** A letter that a replay writes to the inventory topic again. */
export interface PlannedLetter extends Filed {
  readonly value: Buffer | null
  readonly mended: boolean
  /** The order of the value; undefined when it has none. */
  readonly orderId: bigint | undefined
  readonly effect: "creates a payment" | "has no effect: the order has its payment" | "has no effect"
}

/** What an operator says of a replay. */
export interface ReplayChoice {
  /** The value to write instead of the letter's own. */
  readonly value: Buffer | undefined
  /** Also letters that were replayed before. */
  readonly again: boolean
  /** Also values from which the service makes no payment. */
  readonly anyway: boolean
}

/** What the replay of a letter would do where inventory records with these statuses are accepted, or why it is left out. */
export const judge = (
  filed: Filed,
  choice: ReplayChoice,
  accepted: ReadonlySet<string>
): Either.Either<PlannedLetter, Why> => {
  const { letter, replays } = filed
  const mended = choice.value !== undefined
  const value = choice.value ?? letter.value
  if (replays.count > 0 && !choice.again) {
    return Either.left({ reason: "it was replayed before", option: "--again" })
  }
  if (!mended && letter.cut.some((part) => part === "value" || part === "unread")) {
    return Either.left({
      reason: "the letter has only the beginning of the value: give the whole value",
      option: "--value-file"
    })
  }
  const [before, after] = [Letters.keyIn(letter.value), Letters.keyIn(value)]
  if (mended && before !== undefined && before !== after) {
    return Either.left({
      reason: "the corrected value has another idempotent_key: a repeat would not be recognised"
    })
  }
  const outcome = Letters.outcome(value, accepted)
  switch (outcome._tag) {
    case "Creates":
      return Either.right({ ...filed, value, mended, orderId: outcome.orderId, effect: "creates a payment" })
    case "Ignored":
      if (!choice.anyway) {
        return Either.left({
          reason: `its status ${JSON.stringify(outcome.status)} is not in INVENTORY_ACCEPT_STATUSES`
        })
      }
      break
    case "Malformed":
      if (!choice.anyway) {
        return Either.left({ reason: `it would be a dead letter again: ${outcome.reason}`, option: "--edit" })
      }
  }
  return Either.right({ ...filed, value, mended, orderId: undefined, effect: "has no effect" })
}
