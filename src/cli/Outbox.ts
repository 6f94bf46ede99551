import { Command, Options } from "@effect/cli"
import { Clock, Effect, Layer, Option } from "effect"
import { notOnTopic } from "../audit/Run.js"
import { states } from "../domain/EventState.js"
import { integer, oneOf, text } from "../infra/runtime/Setting.js"
import * as Events from "../repair/OutboxEvents.js"
import * as Repair from "../repair/OutboxRepair.js"
import * as Replay from "../repair/OutboxReplay.js"
import type { Plan } from "../repair/Plan.js"
import * as Plans from "../repair/Plan.js"
import * as Audit from "./Audit.js"
import * as Change from "./Change.js"
import * as Database from "./Database.js"
import { UsageError } from "./Failure.js"
import { option, orderNumber, repeated, time } from "./Flags.js"
import { json, print, waitingFor, withSettings } from "./Output.js"
import * as Prepare from "./Prepare.js"
import * as Words from "./RepairWords.js"

const services = Layer.mergeAll(Events.OutboxEvents.Default, Repair.OutboxRepair.Default, Replay.OutboxReplay.Default)

/** Runs a command on the database. Fails with `NotMigrated` when the tables are older than the program. */
const onDatabase = <A, E, R>(work: Effect.Effect<A, E, R>) =>
  withSettings(Database.used, (config) =>
    Effect.zipRight(Prepare.migrated, work).pipe(
      Effect.provide(Layer.provideMerge(services, Database.layer(config, 2)))
    ))

const selectors = {
  event: repeated("event", integer(1, Number.MAX_SAFE_INTEGER), "id", "Only this event; may be given several times"),
  order: repeated("order", orderNumber, "order_id", "Only events of this order; may be given several times"),
  error: option("error", text, "text").pipe(
    Options.withDescription("Only events whose last error contains this text"),
    Options.optional
  )
}

interface Selectors {
  readonly event: ReadonlyArray<number>
  readonly order: ReadonlyArray<bigint>
  readonly error: Option.Option<string>
}

const selection = ({ error, event, order }: Selectors): Events.Selection => ({
  events: event.map(BigInt),
  orders: order,
  error: Option.getOrUndefined(error)
})

const isEmpty = ({ error, event, order }: Selectors) => event.length === 0 && order.length === 0 && Option.isNone(error)

const limit = option("limit", integer(1, 100_000), "number").pipe(
  Options.withDefault(20),
  Options.withDescription("Number of lines; 20 by default")
)

const list = Command.make("list", {
  ...selectors,
  state: option("state", oneOf(...states), "state").pipe(
    Options.withDescription(`Only events in this state: ${states.join(", ")}`),
    Options.optional
  ),
  limit,
  json
}, (flags) =>
  onDatabase(Effect.gen(function*() {
    const outbox = yield* Events.OutboxEvents
    const state = Option.getOrUndefined(flags.state)
    const groups = yield* outbox.groups(selection(flags), state)
    const events = yield* outbox.list(selection(flags), state, flags.limit)
    const now = yield* Clock.currentTimeMillis
    const all = groups.reduce((sum, { count }) => sum + count, 0)
    if (flags.json) {
      yield* Effect.forEach(groups, (group) => print(true, { ...group }, ""), { discard: true })
      return yield* Effect.forEach(events, (event) => print(true, { ...event }, ""), { discard: true })
    }
    const lines = all === 0
      ? ["no events: everything is published"]
      : [
        ...Words.table(groups.map((group) => Words.group(group, now))),
        "",
        ...Words.table(events.map((event) => Words.undone(event, now))),
        ...(all > events.length ? [`and ${all - events.length} more (--limit)`] : []),
        "",
        `${Words.counted(all, "event")} not published`
      ]
    yield* print(false, {}, lines.join("\n"))
  }))).pipe(
    Command.withDescription("Show the events that are not published: counts by state and error, then the oldest")
  )

const blocked = Command.make("blocked", { ...selectors, limit, json }, (flags) =>
  onDatabase(Effect.gen(function*() {
    const outbox = yield* Events.OutboxEvents
    const rows = yield* outbox.blocked(selection(flags), flags.limit)
    const total = yield* outbox.blockedTotal
    const now = yield* Clock.currentTimeMillis
    if (flags.json) {
      yield* Effect.forEach(rows, (row) => print(true, { ...row }, ""), { discard: true })
      return yield* print(true, { ...total }, "")
    }
    const lines = total.dead === 0
      ? ["no dead events: nothing is blocked"]
      : [
        ...Words.table(rows.map((row) => Words.blocking(row, now))),
        ...(total.dead > rows.length && isEmpty(flags) ? [`and ${total.dead - rows.length} more (--limit)`] : []),
        "",
        `${Words.counted(total.dead, "dead event")}, ${Words.counted(total.behind, "event")} behind them. ` +
        "Remove the cause, then: payments outbox retry"
      ]
    yield* print(false, {}, lines.join("\n"))
  }))).pipe(Command.withDescription("Show each dead event, and how many events of its order wait behind it"))

const all = Options.boolean("all").pipe(Options.withDescription("All of them"))

/** Fails without a selector: a change of everything is asked for in words. */
const selected = (flags: Selectors & { readonly all: boolean }) =>
  isEmpty(flags) === flags.all
    ? Effect.void
    : Effect.fail(
      new UsageError({
        problem: flags.all
          ? "give --all, or --event, --order or --error, and not both"
          : "which events? Give --event, --order, --error or --all"
      })
    )

const more = (plan: Plan) => plan.more ? " There are more: run the command again when these are done." : ""

const retry = Command.make("retry", { ...selectors, all, ...Change.flags }, (flags) =>
  Effect.zipRight(
    selected(flags),
    onDatabase(Effect.gen(function*() {
      const repair = yield* Repair.OutboxRepair
      const plan = yield* repair.planRetry(selection(flags))
      yield* Change.make(flags, {
        what: `retry ${Words.counted(plan.events.length, "event")}`,
        count: plan.events.length,
        preview: Words.plan(plan.events, yield* Clock.currentTimeMillis),
        leftOut: plan.leftOut,
        apply: (by, pacing) => repair.retry(plan, by, pacing),
        after: `They are due now: payments outbox list shows what is left.${more(plan)}`
      })
    }))
  )).pipe(
    Command.withDescription("Send dead events again, and refused ones without their pause; remove the cause first")
  )

const skip = Command.make("skip", { ...selectors, all, ...Change.flags }, (flags) =>
  Effect.zipRight(
    selected(flags),
    onDatabase(Effect.gen(function*() {
      const repair = yield* Repair.OutboxRepair
      const plan = yield* repair.planSkip(selection(flags))
      yield* Change.make(flags, {
        what: `skip ${Words.counted(plan.events.length, "event")}`,
        count: plan.events.length,
        preview: `${Words.plan(plan.events, yield* Clock.currentTimeMillis)}\n` +
          "The readers of the payment topic never learn of these transitions; later events of the orders go on.",
        leftOut: plan.leftOut,
        apply: (by, pacing) => repair.skip(plan, by, pacing),
        after: `Their orders go on without them; payments outbox replay announces them after all.${more(plan)}`
      })
    }))
  )).pipe(
    Command.withDescription("Give dead events up: their orders go on, and the readers never learn of these transitions")
  )

/** The consequence for a reader of events that it does not remember any more. */
const beyondWindow = (old: number, accepted: boolean) =>
  old === 0 ? undefined : {
    words:
      `${Words.counted(old, "event")} were sent more than 15 minutes ago. Orders does not recognise them as repeats: ` +
      "it appends each to the history of its order again, and until the last event of the order arrives, the order is in an earlier state.",
    flag: "--beyond-window",
    accepted
  }

/** Events that the audit misses on the topic. More than one repair takes, so that the plan knows of the rest. */
const missing = Effect.map(
  Audit.audited({ since: undefined, order: undefined, examples: Plans.most + 1 }),
  notOnTopic
)

const replay = Command.make("replay", {
  event: selectors.event,
  order: selectors.order,
  since: time("since", "Events marked DONE at this time or later"),
  until: time("until", "Events marked DONE before this time"),
  missing: Options.boolean("missing").pipe(
    Options.withDescription("Events that the audit misses on the topic; reads both topics and the tables")
  ),
  beyondWindow: Options.boolean("beyond-window").pipe(
    Options.withDescription("Also events sent more than 15 minutes ago, which Orders does not recognise as repeats")
  ),
  ...Change.flags
}, (flags) =>
  Effect.gen(function*() {
    const ways = [flags.event.length > 0 || flags.order.length > 0, Option.isSome(flags.since), flags.missing]
    if (!ways.includes(true) && Option.isNone(flags.until)) {
      return yield* new UsageError({ problem: "which events? Give --event, --order, --since or --missing" })
    }
    const missed = flags.missing ? yield* missing : []
    yield* onDatabase(Effect.gen(function*() {
      const outbox = yield* Replay.OutboxReplay
      const now = yield* Clock.currentTimeMillis
      const at = Option.match({ onNone: () => undefined, onSome: (time: (now: number) => number) => time(now) })
      const nothing = flags.missing && missed.length === 0 && flags.event.length === 0
      const plan = nothing ? { events: [], leftOut: [], more: false } : yield* outbox.plan({
        events: [...flags.event, ...missed].map(BigInt),
        orders: flags.order,
        error: undefined,
        since: at(flags.since),
        until: at(flags.until)
      }).pipe(waitingFor("reading table event"))
      const old = plan.events.filter((event) => event.old).length
      yield* Change.make(flags, {
        what: `announce ${Words.counted(plan.events.length, "event")} again`,
        count: plan.events.length,
        preview: Words.plan(plan.events, now),
        leftOut: plan.leftOut,
        danger: beyondWindow(old, flags.beyondWindow),
        apply: (by, pacing) => outbox.replay(plan, by, pacing),
        after: `They are due now, with the idempotent_keys that they had.${more(plan)}`
      })
    }))
  })).pipe(
    Command.withDescription(
      "Announce DONE events again, as after the loss of the topic: each with the later events of its order"
    )
  )

/** `payments outbox`. */
export const command = Command.make("outbox").pipe(
  Command.withDescription("Show and repair the events that wait for topic payment"),
  Command.withSubcommands([list, blocked, retry, skip, replay])
)
