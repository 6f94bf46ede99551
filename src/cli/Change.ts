import { Options, Prompt } from "@effect/cli"
import { Effect, Option } from "effect"
import { randomUUID } from "node:crypto"
import { hostname, userInfo } from "node:os"
import { integer, text } from "../infra/runtime/Setting.js"
import type { By } from "../repair/Operations.js"
import type { LeftOut, Repaired } from "../repair/Plan.js"
import { UsageError } from "./Failure.js"
import { option } from "./Flags.js"
import { json, print } from "./Output.js"
import { progressBar } from "./ProgressBar.js"

/** The person at this machine. */
const operator = Effect.sync(() => `${userInfo().username}@${hostname()}`)

/** The flags of every command that changes something. */
export const flags = {
  dryRun: Options.boolean("dry-run").pipe(Options.withDescription("Show what would change, and change nothing")),
  yes: Options.boolean("yes").pipe(Options.withDescription("Do not ask")),
  reason: option("reason", text, "text").pipe(
    Options.withDescription("Why: kept in table operation. Needed for a change; asked for at a terminal"),
    Options.optional
  ),
  rate: option("rate", integer(1, 100_000), "number").pipe(
    Options.withDefault(500),
    Options.withDescription("Most changes a second; 500 by default")
  ),
  operator: option("operator", text, "name").pipe(
    Options.withDescription("Who: kept in table operation; by default the user and the host"),
    Options.optional
  ),
  json
}

/** The values of `flags`. */
export interface Flags {
  readonly dryRun: boolean
  readonly yes: boolean
  readonly reason: Option.Option<string>
  readonly rate: number
  readonly operator: Option.Option<string>
  readonly json: boolean
}

const atTerminal = () => process.stdin.isTTY === true && process.stderr.isTTY === true

const ask = (question: string) =>
  Effect.flatMap(
    Prompt.run(Prompt.confirm({ message: question, initial: false })),
    (yes) => yes ? Effect.void : Effect.fail(new UsageError({ problem: "nothing was changed" }))
  )

/** A preview, and the change that follows it. */
export interface Change<E, R> {
  /** What the change does, with its object: `retry 12 events`. */
  readonly what: string
  /** Number of changes. With 0 nothing is asked and nothing changes. */
  readonly count: number
  /** The preview for a person. */
  readonly preview: string
  readonly leftOut: ReadonlyArray<LeftOut>
  /** A consequence that is asked for apart; `flag` says yes to it. */
  readonly danger?: { readonly words: string; readonly flag: string; readonly accepted: boolean } | undefined
  readonly apply: (
    by: By,
    pacing: { readonly rate: number; readonly onStep: (done: number) => Effect.Effect<void> }
  ) => Effect.Effect<Repaired, E, R>
  /** What follows, for the last line. */
  readonly after: string
}

const out = (leftOut: ReadonlyArray<LeftOut>) =>
  leftOut.map(({ count, examples, option, reason }) =>
    `left out: ${count} (${examples.join(", ")}): ${reason}${option === undefined ? "" : ` (${option})`}`
  )

/**
 * Shows the preview of a change, asks for what the flags leave open, makes the change and prints its result. Fails with
 * `UsageError` where a person would have to be asked and no terminal is there.
 */
export const make = Effect.fnUntraced(function*<E, R>(flags: Flags, change: Change<E, R>) {
  const { count, danger, leftOut, what } = change
  const document = { change: what, planned: count, left_out: leftOut }
  if (flags.dryRun || count === 0) {
    const last = count === 0 ? "nothing to change" : `would ${what}; nothing was changed (--dry-run)`
    return yield* print(
      flags.json,
      { ...document, dry_run: flags.dryRun, changed: 0 },
      [...(count === 0 ? [] : [change.preview]), ...out(leftOut), ...(danger === undefined ? [] : [danger.words]), last]
        .join("\n")
    )
  }
  if (!flags.json && !flags.yes) yield* print(false, {}, [change.preview, ...out(leftOut)].join("\n"))
  if (danger !== undefined && !danger.accepted) {
    if (flags.json || !atTerminal()) {
      return yield* new UsageError({ problem: `${danger.words} Give ${danger.flag} to do it all the same` })
    }
    yield* print(false, {}, danger.words)
    yield* ask(`${danger.flag.slice(2)}: go on all the same?`)
  }
  if (!flags.yes) {
    if (flags.json || !atTerminal()) {
      return yield* new UsageError({ problem: `this would ${what}: give --yes to do it, or --dry-run to look` })
    }
    yield* ask(`${what[0]!.toUpperCase()}${what.slice(1)}?`)
  }
  const reason = Option.isSome(flags.reason)
    ? flags.reason.value
    : atTerminal()
    ? yield* Prompt.run(Prompt.text({ message: "Why? (kept in table operation)" }))
    : yield* new UsageError({ problem: "a change needs --reason: it is kept in table operation" })
  const by: By = {
    run: randomUUID(),
    reason,
    operator: Option.isSome(flags.operator) ? flags.operator.value : yield* operator
  }
  const bar = yield* progressBar
  let done = 0
  const { changed, unchanged } = yield* change.apply(by, {
    rate: flags.rate,
    onStep: (now) => Effect.suspend(() => bar.draw(done = now, count))
  }).pipe(
    Effect.ensuring(bar.clear),
    Effect.tapError(() =>
      done === 0
        ? Effect.void
        : Effect.logWarning(`stopped after ${done} of ${count}; run the command again for the rest`)
    )
  )
  const meanwhile = unchanged === 0 ? "" : `; ${unchanged} were changed by others meanwhile, and left alone`
  yield* print(
    flags.json,
    { ...document, dry_run: false, changed, unchanged, run: by.run, operator: by.operator, reason },
    [...(flags.yes ? out(leftOut) : []), `${what}: ${changed} done${meanwhile}. ${change.after}`].join("\n")
  )
})
