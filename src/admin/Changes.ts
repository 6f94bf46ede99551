import { Effect, Option } from "effect"
import { randomUUID } from "node:crypto"
import type { By } from "../repair/Operations.js"
import type { Pacing } from "../repair/OutboxRepair.js"
import type { LeftOut, Repaired } from "../repair/Plan.js"
import { Owner } from "./api/Access.js"
import { BadRequest, Unavailable } from "./api/Refusals.js"

/** A failure of a server, as the API answers it. */
export const unavailable = (error: { readonly message: string }) => new Unavailable({ message: error.message })

/** A document for JSON: a bigint is text, because JSON numbers lose digits. */
const plain = (value: unknown): unknown =>
  typeof value === "bigint"
    ? String(value)
    : Array.isArray(value)
    ? value.map(plain)
    : typeof value === "object" && value !== null && !(value instanceof Date)
    ? Object.fromEntries(Object.entries(value).map(([name, item]) => [name, plain(item)]))
    : value
/** A value as a JSON document. */
export const documentOf = (value: object) => plain(value) as Record<string, unknown>

export interface Change<E> {
  readonly count: number
  readonly leftOut: ReadonlyArray<LeftOut>
  readonly more: boolean
  readonly apply: (by: By, pacing: Pacing) => Effect.Effect<Repaired, E>
}

/** What every change asks for. */
export interface Asked {
  readonly reason: string
  readonly operator?: string | undefined
  readonly dry_run: boolean
  readonly rate: number
}

/** The name of the operator: that of the token, or that of the request where the token has none. */
export const operatorOf = (given: string | undefined) =>
  Effect.flatMap(Owner, (owner) => {
    const operator = Option.getOrElse(owner, () => given)
    if (operator === undefined) return new BadRequest({ message: "give operator: the token has no name" })
    return given === undefined || given === operator
      ? Effect.succeed(operator)
      : new BadRequest({ message: `leave out operator: the token is that of ${operator}` })
  })

/** Makes a change, or only its preview. */
export const make = <E>(asked: Asked, { apply, count, leftOut, more }: Change<E>) =>
  Effect.gen(function*() {
    const { dry_run, rate, reason } = asked
    const operator = yield* operatorOf(asked.operator)
    const run = randomUUID()
    const { changed, unchanged } = dry_run || count === 0
      ? { changed: 0, unchanged: 0 }
      : yield* apply({ run, operator, reason }, { rate, onStep: () => Effect.void })
    if (changed > 0) {
      yield* Effect.logInfo("an operator changed the outbox or replayed dead letters").pipe(
        Effect.annotateLogs({ run, operator, changed })
      )
    }
    return { planned: count, left_out: leftOut, dry_run, changed, unchanged, more, run }
  })
