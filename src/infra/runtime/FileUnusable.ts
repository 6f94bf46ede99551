import { Schema } from "effect"

/** A file of a setting cannot be read, or has not the content that it should have. A later attempt may work: files are replaced. */
export class FileUnusable extends Schema.TaggedError<FileUnusable>()("FileUnusable", {
  /** The variable that names the file. */
  variable: Schema.String,
  problem: Schema.String
}) {
  override get message() {
    return `${this.variable} ${this.problem}`
  }
}
