import { HttpApiBuilder } from "@effect/platform"
import { Effect, Option } from "effect"
import * as Audit from "../audit/Run.js"
import type { Sources } from "../audit/Sources.js"
import { OutboxEvents } from "../repair/OutboxEvents.js"
import { OutboxRepair } from "../repair/OutboxRepair.js"
import { OutboxReplay } from "../repair/OutboxReplay.js"
import * as Plans from "../repair/Plan.js"
import { Api } from "./Api.js"
import { BadRequest, NeedsConsent } from "./api/Refusals.js"
import type { Asked } from "./Changes.js"
import { documentOf, make, unavailable } from "./Changes.js"

const selectionOf = (payload: {
  readonly event_ids: ReadonlyArray<string>
  readonly order_ids: ReadonlyArray<string>
  readonly error?: string | undefined
}) => ({ events: payload.event_ids.map(BigInt), orders: payload.order_ids.map(BigInt), error: payload.error })

type RepairPayload = Parameters<typeof selectionOf>[0] & Asked & { readonly all: boolean }

/** Fails unless the request selects events, or all of them and says so. */
const selected = (payload: RepairPayload) =>
  (payload.event_ids.length === 0 && payload.order_ids.length === 0 && payload.error === undefined) === payload.all
    ? Effect.void
    : Effect.fail(new BadRequest({ message: "give event_ids, order_ids or error, or all and none of these" }))

/** Answers `/api/outbox/…`. */
export const layer = (sources: Sources) =>
  HttpApiBuilder.group(Api, "outbox", (handlers) =>
    Effect.gen(function*() {
      // an audit keeps its facts in files: one at a time
      const one = yield* Effect.makeSemaphore(1)
      const missed = Audit.run({
        ...sources,
        since: Option.none(),
        wait: Option.none(),
        examples: Plans.most + 1,
        onProgress: () => Effect.void
      }).pipe(Effect.map(Audit.notOnTopic), one.withPermits(1))
      const events = yield* OutboxEvents
      const repair = yield* OutboxRepair
      const replay = yield* OutboxReplay
      /** Answers a request that selects events and changes each by itself. */
      const repaired = (
        payload: RepairPayload,
        planOf: typeof repair.planRetry,
        change: typeof repair.retry
      ) =>
        Effect.gen(function*() {
          yield* selected(payload)
          const plan = yield* planOf(selectionOf(payload))
          return yield* make(payload, {
            ...plan,
            count: plan.events.length,
            apply: (by, pacing) => change(plan, by, pacing)
          })
        }).pipe(Effect.catchTag("DatabaseUnavailable", (error) => unavailable(error)))

      return handlers
        .handle("events", ({ urlParams: { after, error, limit, order_id, state } }) => {
          const selection = selectionOf({ event_ids: [], order_ids: order_id === undefined ? [] : [order_id], error })
          return Effect.all({
            groups: after === undefined ? events.groups(selection, state) : Effect.succeed(null),
            events: events.list(selection, state, limit, after)
          }).pipe(Effect.mapBoth({
            onSuccess: (found) => ({ ...found, next: found.events.length < limit ? null : found.events.at(-1)!.cursor }),
            onFailure: unavailable
          }))
        })
        .handle("blocked", ({ urlParams: { limit } }) =>
          Effect.all({
            total: events.blockedTotal,
            events: events.blocked({ events: [], orders: [], error: undefined }, limit)
          }).pipe(Effect.mapBoth({ onSuccess: documentOf, onFailure: unavailable })))
        .handle("retry", ({ payload }) => repaired(payload, repair.planRetry, repair.retry))
        .handle("skip", ({ payload }) => repaired(payload, repair.planSkip, repair.skip))
        .handle("replay", ({ payload }) =>
          Effect.gen(function*() {
            const { beyond_window, event_ids, missing, order_ids, since, until } = payload
            const named = event_ids.length > 0 || order_ids.length > 0
            if (!named && !missing && since === undefined && until === undefined) {
              return yield* new BadRequest({ message: "give event_ids, order_ids, since, until or missing" })
            }
            const lost = missing ? yield* missed : []
            const nothing = missing && lost.length === 0 && event_ids.length === 0
            const plan = nothing ? { events: [], leftOut: [], more: false } : yield* replay.plan({
              ...selectionOf({ ...payload, event_ids: [...event_ids, ...lost.map(String)] }),
              since: since?.getTime(),
              until: until?.getTime()
            })
            const old = plan.events.filter((event) => event.old).length
            if (old > 0 && !beyond_window && !payload.dry_run) {
              return yield* new NeedsConsent({
                field: "beyond_window",
                message:
                  `${old} events were sent more than 15 minutes ago: Orders appends each to the history of its order again`
              })
            }
            return yield* make(payload, {
              ...plan,
              count: plan.events.length,
              apply: (by, pacing) => replay.replay(plan, by, pacing)
            })
          }).pipe(Effect.mapError((error) =>
            error._tag === "BadRequest" || error._tag === "NeedsConsent" ? error : unavailable(error)
          )))
    }))
