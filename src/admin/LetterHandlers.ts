import { HttpApiBuilder } from "@effect/platform"
import { Effect } from "effect"
import { DeadLetterBox } from "../repair/DeadLetterBox.js"
import { documentOf as letterDocument } from "../repair/Filed.js"
import type * as Letters from "../repair/Letter.js"
import { Api } from "./Api.js"
import { BadRequest, NotFound } from "./api/Refusals.js"
import { documentOf, make, unavailable } from "./Changes.js"
import { bytesOf } from "./Records.js"

/** The largest key or value that an answer has whole: a letter has at most 1 MiB. */
const mostBytes = 1024 * 1024

const nullable = (bytes: Buffer | null) => bytes === null ? null : bytesOf(bytes, mostBytes)

const placeOf = (text: string): Letters.Place => {
  const [partition, offset] = text.split("@")
  return { partition: Number(partition), offset: offset! }
}

/** The most letters of one request. */
const mostLetters = 10_000

/** The newest letters of each partition that a list with a filter reads. */
const searched = 5_000

/** Answers `/api/dead-letters…`. */
export const layer = HttpApiBuilder.group(Api, "dead-letters", (handlers) =>
  Effect.gen(function*() {
    const box = yield* DeadLetterBox

    /**
     * The newest letters, at most `limit`, and the numbers of letters that match, that were read, and that are on the topic. The
     * cost does not grow with the topic: it reads as many letters of each partition as it shows, or with a filter the newest 5,000.
     */
    const newest = (error: string | undefined, limit: number, open: boolean) =>
      Effect.gen(function*() {
        const filtered = open || error !== undefined
        const letters: Array<ReturnType<typeof letterDocument>> = []
        const { read, total } = yield* box.scan(
          { error, since: undefined, newest: filtered ? searched : limit },
          (found) =>
            Effect.sync(() => {
              for (const one of found) if (!open || one.replays.count === 0) letters.push(letterDocument(one))
            })
        )
        letters.sort((a, b) => Number(b.at) - Number(a.at) || Number(b.offset) - Number(a.offset))
        return { count: filtered ? letters.length : total, letters: letters.slice(0, limit), read, total }
      })

    return handlers
      .handle("list", ({ urlParams: { error, limit, open } }) =>
        newest(error, limit, open).pipe(Effect.mapBoth({ onSuccess: documentOf, onFailure: unavailable })))
      .handle("show", ({ path }) =>
        box.at([path]).pipe(
          Effect.map(([filed]) =>
            documentOf({
              ...letterDocument(filed!),
              headers: filed!.letter.headers,
              key: nullable(filed!.letter.key),
              value: nullable(filed!.letter.value)
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
          const { filed, more } = places.length > 0
            ? { filed: yield* box.at(places.map(placeOf)), more: false }
            : yield* box.choose({ error, again, letters: mostLetters })
          const plan = yield* box.plan(filed, {
            again,
            anyway,
            value: value === undefined ? undefined : Buffer.from(value)
          })
          return yield* make(payload, {
            leftOut: plan.leftOut,
            more,
            count: plan.letters.length,
            apply: (by, pacing) =>
              box.replay(plan, by, pacing)
          })
        }).pipe(Effect.mapError((error) =>
          error._tag === "NoSuchLetter"
            ? new NotFound({ message: error.message })
            : error._tag === "BadRequest"
            ? error
            : unavailable(error)
        )))
  }))
