import type { HelpDoc } from "@effect/cli"
import { ValidationError } from "@effect/cli"
import { Cause, Option, Schema } from "effect"
import { OutputFailed } from "../infra/runtime/StandardStreams.js"
import * as Help from "./Help.js"
import { exitCodes } from "./Output.js"

/** The command line asks for what is not there. */
export class UsageError extends Schema.TaggedError<UsageError>()("UsageError", { problem: Schema.String }) {
  override get message() {
    return this.problem
  }
}

/** What went wrong, for whoever started us. */
export interface Failure {
  /** A name that programs can rely on: a code of gRPC, or the kind of the error. */
  readonly error: string
  readonly message: string
}

/** What the parser says, in one line. */
const docText = (doc: HelpDoc.HelpDoc): string =>
  (doc._tag === "Paragraph" || doc._tag === "Header"
    ? Help.plain(doc.value)
    : doc._tag === "Sequence"
    ? `${docText(doc.left)} ${docText(doc.right)}`
    : "").replaceAll(/\s+/g, " ").trim()

const tagged = (error: unknown): Failure => {
  if (ValidationError.isValidationError(error)) return { error: "UsageError", message: docText(error.error) }
  const { _tag, code, message, refused } = error as {
    _tag?: string
    code?: unknown
    message: string
    refused?: unknown
  }
  // waiting does not help where the database refuses the role
  if (_tag === "DatabaseUnavailable" && refused === true) return { error: "DatabaseRefused", message }
  return { error: typeof code === "string" ? code : _tag ?? "Error", message }
}

/** The failure in a cause. None where it is a bug, or an interruption. */
export const of = (cause: Cause.Cause<unknown>): Option.Option<Failure> =>
  Option.orElse(
    Option.map(Cause.failureOption(cause), tagged),
    // nothing that the program does wrong: the place where its results go is full
    () => Option.map(Option.filter(Cause.dieOption(cause), (defect) => defect instanceof OutputFailed), tagged)
  )

/** One line, or as JSON. */
export const text = (failure: Failure, asJson: boolean) =>
  asJson ? JSON.stringify(failure) : `payments: ${failure.message}`

/** The exit code that a failure has. */
export const exitCode = ({ error }: Failure): number => {
  switch (error) {
    case "UsageError":
    case "ConfigProblems":
    case "INVALID_ARGUMENT":
      return exitCodes.usage
    case "NOT_FOUND":
      return exitCodes.notFound
    case "FAILED_PRECONDITION":
      return exitCodes.refused
    case "UNAVAILABLE":
    case "DEADLINE_EXCEEDED":
    case "KafkaUnavailable":
    case "ConsumerCrashed":
    case "MembershipLost":
    case "DatabaseUnavailable":
      return exitCodes.unavailable
    default:
      return 1
  }
}
