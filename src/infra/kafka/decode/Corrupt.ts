import { Data } from "effect"

/** Bytes that cannot be decoded. The reason quotes none of them. */
export class Corrupt extends Data.TaggedError("Corrupt")<{ readonly reason: string }> {
  override get message() {
    return this.reason
  }
}
