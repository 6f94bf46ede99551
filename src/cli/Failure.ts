import type { HelpDoc } from "@effect/cli"
import { ValidationError } from "@effect/cli"
import { Cause, Option, Schema } from "effect"
import { GrpcCallError } from "../grpc/PaymentsClient.js"
import { OutputFailed } from "../infra/runtime/StandardStreams.js"
import * as Help from "./Help.js"
import { exitCodes } from "./Output.js"

/** The command line names an unknown command or is otherwise wrong. */
export class UsageError extends Schema.TaggedError<UsageError>()("UsageError", { problem: Schema.String }) {
  override get message() {
    return this.problem
  }
}

/** A failure of a command, as its caller sees it. */
export interface Failure {
  /** A stable name for programs: a gRPC code, or the tag of the error. */
  readonly error: string
  readonly message: string
  /** `google.rpc.ErrorInfo` of a refused gRPC call. */
  readonly reason?: string
  readonly metadata?: Readonly<Record<string, string>>
}

/** A message of the parser in one line. */
const docText = (doc: HelpDoc.HelpDoc): string =>
  (doc._tag === "Paragraph" || doc._tag === "Header"
    ? Help.plain(doc.value)
    : doc._tag === "Sequence"
    ? `${docText(doc.left)} ${docText(doc.right)}`
    : "").replaceAll(/\s+/g, " ").trim()

/** What the caller of a refused call can do. */
const hints: Readonly<Record<string, string>> = {
  NO_CREDENTIAL: "set GRPC_TOKEN_FILE, or GRPC_TLS_CLIENT_CERT and GRPC_TLS_CLIENT_KEY, as the server asks",
  MISSING_SCOPE: "ask for a credential with that scope"
}

/** A typed failure, as the caller of the command sees it. */
export const tagged = (error: unknown): Failure => {
  if (ValidationError.isValidationError(error)) return { error: "UsageError", message: docText(error.error) }
  if (error instanceof GrpcCallError) {
    const { code, message, metadata, reason } = error
    const hint = reason === undefined ? undefined : hints[reason]
    return {
      error: code,
      message: hint === undefined ? message : `${message}: ${hint}`,
      ...(reason === undefined ? {} : { reason }),
      ...(metadata === undefined ? {} : { metadata })
    }
  }
  const { _tag, code, message, refused } = error as {
    _tag?: string
    code?: unknown
    message: string
    refused?: unknown
  }
  // not "unavailable": a later try does not help when the database refuses the role
  if (_tag === "DatabaseUnavailable" && refused === true) return { error: "DatabaseRefused", message }
  return { error: typeof code === "string" ? code : _tag ?? "Error", message }
}

/** The failure in a cause; none for a bug or an interruption. */
export const of = (cause: Cause.Cause<unknown>): Option.Option<Failure> =>
  Option.orElse(
    Option.map(Cause.failureOption(cause), tagged),
    // a defect, but no bug: the disk or pipe for the results is full or closed
    () => Option.map(Option.filter(Cause.dieOption(cause), (defect) => defect instanceof OutputFailed), tagged)
  )

/** The failure as one line of text or JSON. */
export const text = (failure: Failure, asJson: boolean) =>
  asJson ? JSON.stringify(failure) : `payments: ${failure.message}`

/** The exit code of a failure; 1 for those without a code of their own (README.md). */
export const exitCode = ({ error }: Failure): number => {
  switch (error) {
    case "UsageError":
    case "ConfigProblems":
    case "FileUnusable":
    case "SecretUnreadable":
    case "TokenUnprotected":
    case "INVALID_ARGUMENT":
      return exitCodes.usage
    case "NOT_FOUND":
    case "NoSuchLetter":
      return exitCodes.notFound
    case "FAILED_PRECONDITION":
      return exitCodes.refused
    case "UNAUTHENTICATED":
    case "PERMISSION_DENIED":
      return exitCodes.denied
    case "UNAVAILABLE":
    case "RESOURCE_EXHAUSTED":
    case "DEADLINE_EXCEEDED":
    case "KafkaUnavailable":
    case "RedisUnavailable":
    case "ConsumerCrashed":
    case "MembershipLost":
    case "DatabaseUnavailable":
    case "OutboxBusy":
      return exitCodes.unavailable
    default:
      return 1
  }
}

/** The exit code of a command that ended with this cause; 1 for a bug. */
export const exitCodeOf = (cause: Cause.Cause<unknown>): number =>
  Option.match(of(cause), { onNone: () => 1, onSome: exitCode })
