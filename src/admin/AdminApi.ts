import { HttpApiBuilder, HttpServer, HttpServerError } from "@effect/platform"
import type { HttpApp } from "@effect/platform"
import type { Redacted, Scope } from "effect"
import { Effect, Layer, Option } from "effect"
import { randomUUID } from "node:crypto"
import { DeadLetterBox } from "../repair/DeadLetterBox.js"
import type { Filed } from "../repair/DeadLetterBox.js"
import * as Letters from "../repair/Letter.js"
import type { By } from "../repair/Operations.js"
import { Operations } from "../repair/Operations.js"
import { OutboxEvents } from "../repair/OutboxEvents.js"
import type { Pacing } from "../repair/OutboxRepair.js"
import { OutboxRepair } from "../repair/OutboxRepair.js"
import { OutboxReplay } from "../repair/OutboxReplay.js"
import type { LeftOut, Repaired } from "../repair/Plan.js"
import * as Conclusion from "../story/Conclusion.js"
import type { StoryOptions } from "../story/OrderStory.js"
import * as OrderStory from "../story/OrderStory.js"
import * as Telling from "../story/Telling.js"
import * as AdminToken from "./AdminToken.js"
import { Api, BadRequest, NeedsConsent, NotFound, Unavailable } from "./Api.js"

const unavailable = (error: { readonly message: string }) => new Unavailable({ message: error.message })

/** A document for JSON: a bigint is text, because JSON numbers lose digits. */
const plain = (value: unknown): unknown =>
  typeof value === "bigint"
    ? String(value)
    : Array.isArray(value)
    ? value.map(plain)
    : typeof value === "object" && value !== null && !(value instanceof Date)
    ? Object.fromEntries(Object.entries(value).map(([name, item]) => [name, plain(item)]))
    : value
const documentOf = (value: object) => plain(value) as Record<string, unknown>

interface Change<E> {
  readonly count: number
  readonly leftOut: ReadonlyArray<LeftOut>
  readonly more: boolean
  readonly apply: (by: By, pacing: Pacing) => Effect.Effect<Repaired, E>
}

interface Asked {
  readonly reason: string
  readonly operator: string
  readonly dry_run: boolean
  readonly rate: number
}

/** Makes a change, or only its preview. */
const make = <E>({ dry_run, operator, rate, reason }: Asked, { apply, count, leftOut, more }: Change<E>) =>
  Effect.gen(function*() {
    const run = randomUUID()
    const { changed, unchanged } = dry_run || count === 0
      ? { changed: 0, unchanged: 0 }
      : yield* apply({ run, operator, reason }, { rate, onStep: () => Effect.void })
    if (changed > 0) yield* Effect.logInfo("an operator changed the outbox or replayed dead letters").pipe(
      Effect.annotateLogs({ run, operator, changed })
    )
    return { planned: count, left_out: leftOut, dry_run, changed, unchanged, more, run }
  })

const orders = (options: StoryOptions) =>
  HttpApiBuilder.group(Api, "orders", (handlers) =>
    Effect.map(OrderStory.make(options), ({ tell }) =>
      handlers.handle("story", ({ path, urlParams }) =>
        Effect.gen(function*() {
          const story = yield* Effect.mapError(tell(BigInt(path.order_id), urlParams.since?.getTime()), unavailable)
          const { says, state } = Conclusion.conclude(story)
          return state === "unknown" ? yield* new NotFound({ message: says }) : documentOf(Telling.document(story))
        }))))

const selectionOf = (payload: {
  readonly event_ids: ReadonlyArray<string>
  readonly order_ids: ReadonlyArray<string>
  readonly error?: string | undefined
}) => ({ events: payload.event_ids.map(BigInt), orders: payload.order_ids.map(BigInt), error: payload.error })

/** Fails unless the request selects events, or all of them and says so. */
const selected = (payload: Parameters<typeof selectionOf>[0] & { readonly all: boolean }) =>
  (payload.event_ids.length === 0 && payload.order_ids.length === 0 && payload.error === undefined) === payload.all
    ? Effect.void
    : Effect.fail(new BadRequest({ message: "give event_ids, order_ids or error, or all and none of these" }))

const outbox = HttpApiBuilder.group(Api, "outbox", (handlers) =>
  Effect.gen(function*() {
    const events = yield* OutboxEvents
    const repair = yield* OutboxRepair
    const replay = yield* OutboxReplay
    return handlers
      .handle("events", ({ urlParams: { error, limit, order_id, state } }) => {
        const selection = selectionOf({ event_ids: [], order_ids: order_id === undefined ? [] : [order_id], error })
        return Effect.all({
          groups: events.groups(selection, state),
          events: events.list(selection, state, limit)
        }).pipe(Effect.mapBoth({ onSuccess: documentOf, onFailure: unavailable }))
      })
      .handle("blocked", ({ urlParams: { limit } }) =>
        Effect.all({
          total: events.blockedTotal,
          events: events.blocked({ events: [], orders: [], error: undefined }, limit)
        }).pipe(Effect.mapBoth({ onSuccess: documentOf, onFailure: unavailable })))
      .handle("retry", ({ payload }) =>
        Effect.gen(function*() {
          yield* selected(payload)
          const plan = yield* repair.planRetry(selectionOf(payload))
          return yield* make(payload, {
            ...plan,
            count: plan.events.length,
            apply: (by, pacing) => repair.retry(plan, by, pacing)
          })
        }).pipe(Effect.catchTag("DatabaseUnavailable", (error) => unavailable(error))))
      .handle("skip", ({ payload }) =>
        Effect.gen(function*() {
          yield* selected(payload)
          const plan = yield* repair.planSkip(selectionOf(payload))
          return yield* make(payload, {
            ...plan,
            count: plan.events.length,
            apply: (by, pacing) => repair.skip(plan, by, pacing)
          })
        }).pipe(Effect.catchTag("DatabaseUnavailable", (error) => unavailable(error))))
      .handle("replay", ({ payload }) =>
        Effect.gen(function*() {
          const { beyond_window, event_ids, order_ids, since, until } = payload
          if (event_ids.length === 0 && order_ids.length === 0 && since === undefined && until === undefined) {
            return yield* new BadRequest({ message: "give event_ids, order_ids, since or until" })
          }
          const plan = yield* replay.plan({
            ...selectionOf(payload),
            since: since?.getTime(),
            until: until?.getTime()
          })
          const old = plan.events.filter((event) => event.old).length
          if (old > 0 && !beyond_window && !payload.dry_run) {
            return yield* new NeedsConsent({
              field: "beyond_window",
              message: `${old} events were sent more than 15 minutes ago: Orders appends each to the history of its order again`
            })
          }
          return yield* make(payload, {
            ...plan,
            count: plan.events.length,
            apply: (by, pacing) => replay.replay(plan, by, pacing)
          })
        }).pipe(Effect.catchTags({ DatabaseUnavailable: (error) => unavailable(error), OutboxBusy: (error) => unavailable(error) })))
  }))

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
  bytes === null ? null : { text: Letters.textOf(bytes) ?? null, hex: Letters.textOf(bytes) === undefined ? bytes.toString("hex") : null }

const placeOf = (text: string): Letters.Place => {
  const [partition, offset] = text.split("@")
  return { partition: Number(partition), offset: offset! }
}

/** The most letters of one request. */
const mostLetters = 10_000

const deadLetters = HttpApiBuilder.group(Api, "dead-letters", (handlers) =>
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
        first(error, limit, ({ replays }) => !open || replays.count === 0).pipe(
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
            return yield* new BadRequest({ message: "a mended value needs exactly one place" })
          }
          const { count, found } = places.length > 0
            ? { count: 0, found: yield* box.at(places.map(placeOf)) }
            : yield* first(error, mostLetters, ({ replays }) => again || replays.count === 0)
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

const operations = HttpApiBuilder.group(Api, "operations", (handlers) =>
  Effect.map(Operations, ({ last }) =>
    handlers.handle("last", ({ urlParams: { limit, order_id } }) =>
      last(limit, Option.map(Option.fromNullable(order_id), BigInt)).pipe(
        Effect.mapBoth({ onSuccess: (rows) => documentOf({ operations: rows }), onFailure: unavailable })
      ))))

/** The operations API as an app for the operations port: `/api/…` with the token, and `/openapi.json` without it. */
export const app = (
  options: StoryOptions,
  token: Redacted.Redacted
) =>
  Effect.gen(function*() {
    const services = Layer.mergeAll(
      OutboxEvents.Default,
      OutboxRepair.Default,
      OutboxReplay.Default,
      Operations.Default,
      DeadLetterBox.Default(options)
    )
    const api = HttpApiBuilder.api(Api).pipe(
      Layer.provide(Layer.mergeAll(orders(options), outbox, deadLetters, operations)),
      Layer.provide(services),
      Layer.provide(AdminToken.layer(token))
    )
    const context = yield* Layer.build(
      Layer.mergeAll(
        HttpApiBuilder.middlewareOpenApi().pipe(Layer.provideMerge(api)),
        HttpApiBuilder.Router.Live,
        HttpApiBuilder.Middleware.layer,
        HttpServer.layerContext
      )
    )
    const served = yield* Effect.provide(HttpApiBuilder.httpApp, context)
    return served.pipe(
      Effect.catchAllCause((cause) => Effect.map(HttpServerError.causeResponse(cause), ([response]) => response)),
      Effect.provide(context)
    ) as HttpApp.Default<never, Scope.Scope>
  })
