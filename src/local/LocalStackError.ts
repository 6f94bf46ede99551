import { Schema } from "effect"

/** A server of the local stack. */
export const Part = Schema.Literal("postgres", "redis", "kafka")
export type Part = typeof Part.Type

/** A failure of the local stack. The message names the problem and its solution. */
export class LocalStackError extends Schema.TaggedError<LocalStackError>()("LocalStackError", {
  /** "stack" for a problem of the whole, such as a folder in use. */
  part: Schema.Literal(...Part.literals, "stack"),
  problem: Schema.String,
  wayOut: Schema.String,
  cause: Schema.optional(Schema.Defect)
}) {
  override get message() {
    return `${this.part}: ${this.problem}\n${this.wayOut}`
  }
}

/** A folder or file of the stack could not be read or written. */
export const fromPlatform = (part: LocalStackError["part"]) => (cause: { readonly message: string }) =>
  new LocalStackError({
    part,
    problem: cause.message,
    wayOut: "Check that the folder of the local stack is yours and the disk is not full.",
    cause
  })
