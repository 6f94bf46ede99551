import { HttpApiBuilder } from "@effect/platform"
import { Effect } from "effect"
import type { Filed } from "../repair/DeadLetterBox.js"
import { DeadLetterBox } from "../repair/DeadLetterBox.js"
import * as Letters from "../repair/Letter.js"
import { Api, BadRequest, NotFound } from "./Api.js"
import { documentOf, make, unavailable } from "./Changes.js"

const letterOf = ({ letter, replays }: Filed) => ({
  partition: letter.partition,
  offset: letter.offset,
  at: letter.at === undefined ? null : new Date(letter.at),
  reason: letter.reason,
  original: letter.original,
  value_bytes: letter.value?.length ?? null,
  cut: letter.cut,
  replays: replays.count,
  replayed_at: replays.last?.at ?? null,
  replayed_by: replays.last?.operator ?? null
})

const bytesOf = (bytes: Buffer | null) =>
  bytes === null
    ? null
    : { text: Letters.textOf(bytes) ?? null, hex: Letters.textOf(bytes) === undefined ? bytes.toString("hex") : null }

const placeOf = (text: string): Letters.Place => {
  const [partition, offset] = text.split("@")
  return { partition: Number(partition), offset: offset! }
}

/** The most letters of one request. */
const mostLetters = 10_000

/** Answers `/api/dead-letters…`. */
export const layer = HttpApiBuilder.group(Api, "dead-letters", (handlers) =>
  Effect.gen(function*() {
    const box = yield* DeadLetterBox

    /** The first letters that `keep` accepts, at most `limit`. */
    const first = (error: string | undefined, limit: number, keep: (filed: Filed) => boolean) =>
      Effect.gen(function*() {
        const found: Array<Filed> = []
        let count = 0
        yield* box.scan({ error, since: undefined }, (letters) =>
          Effect.sync(() => {
            for (const one of letters.filter(keep)) {
              count++
              if (found.length < limit) found.push(one)
            }
          }))
        return { found, count } as const
      })

    return handlers
      .handle("list", ({ urlParams: { error, limit, open } }) =>
        first(error, limit, ({ replays }) =>
          !open || replays.count === 0).pipe(
            Effect.mapBoth({
              onSuccess: ({ count, found }) => documentOf({ count, letters: found.map(letterOf) }),
              onFailure: unavailable
            })
          ))
      .handle("show", ({ path }) =>
        box.at([path]).pipe(
          Effect.map(([filed]) =>
            documentOf({
              ...letterOf(filed!),
              headers: filed!.letter.headers,
              key: bytesOf(filed!.letter.key),
              value: bytesOf(filed!.letter.value)
            })
          ),
          Effect.mapError((error) =>
            error._tag === "NoSuchLetter" ? new NotFound({ message: error.message }) : unavailable(error)
          )
        ))
      .handle("replayLetters", ({ payload }) =>
        Effect.gen(function*() {
          const { again, all, anyway, error, places, value } = payload
          if ((places.length > 0) === (all || error !== undefined)) {
            return yield* new BadRequest({ message: "give places, or error or all" })
          }
          if (value !== undefined && places.length !== 1) {
            return yield* new BadRequest({ message: "a corrected value needs exactly one place" })
          }
          const { count, found } = places.length > 0
            ? { count: 0, found: yield* box.at(places.map(placeOf)) }
            : yield* first(error, mostLetters, ({ replays }) =>
              again || replays.count === 0)
          const plan = yield* box.plan(found, {
            again,
            anyway,
            value: value === undefined ? undefined : Buffer.from(value)
          })
          return yield* make(payload, {
            leftOut: plan.leftOut,
            more: count > mostLetters,
            count: plan.letters.length,
            apply: (by, pacing) => box.replay(plan, by, pacing)
          })
        }).pipe(Effect.mapError((error) =>
          error._tag === "NoSuchLetter"
            ? new NotFound({ message: error.message })
            : error._tag === "BadRequest"
            ? error
            : unavailable(error)
        )))
  }))
