import { Data } from "effect"

/** These bytes are not what they should be. The reason quotes nothing of them. */
export class Corrupt extends Data.TaggedError("Corrupt")<{ readonly reason: string }> {
  override get message() {
    return this.reason
  }
}
