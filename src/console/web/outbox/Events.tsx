import { useState } from "preact/hooks"
import { Shown } from "../Answer.js"
import { api } from "../Calls.js"
import { Change } from "../Change.js"
import { More, usePages } from "../Pages.js"
import * as Route from "../Route.js"
import * as Session from "../Session.js"
import { Table } from "../Table.js"
import { Time } from "../Time.js"
import type * as Wire from "../Wire.js"

const states: ReadonlyArray<{ readonly state: Wire.EventState; readonly name: string; readonly kind: string }> = [
  { state: "dead", name: "dead", kind: "bad" },
  { state: "backing-off", name: "backing off", kind: "warn" },
  { state: "due", name: "waiting", kind: "info" },
  { state: "leased", name: "leased", kind: "info" },
  { state: "behind", name: "behind another", kind: "" }
]

export const StatePill = ({ state }: { readonly state: string }) => {
  const known = states.find((one) => one.state === state)
  return <span class={`pill ${known?.kind ?? ""}`}>{known?.name ?? state}</span>
}

const holder = (event: Wire.Event) =>
  event.batch !== null
    ? `batch ${event.batch}, shard ${event.shard}`
    : event.lease_token === null
    ? ""
    : `claim ${event.lease_token.slice(0, 8)}`

type Chosen = ReadonlySet<string>

const columnsOf = (
  chosen: Chosen,
  choose: (next: Chosen) => void,
  shown: ReadonlyArray<Wire.Event>,
  selects: boolean
) => {
  const toggle = (id: string, on: boolean) => {
    const next = new Set(chosen)
    if (on) next.add(id)
    else next.delete(id)
    choose(next)
  }
  return [
    ...(selects && shown.length > 0
      ? [{
        name: "Select",
        cell: (event: Wire.Event) => (
          <input
            type="checkbox"
            aria-label={`Select event ${event.id}`}
            checked={chosen.has(event.id)}
            onChange={(change) => toggle(event.id, change.currentTarget.checked)}
          />
        )
      }]
      : []),
    { name: "Event", cell: (event: Wire.Event) => event.id },
    {
      name: "Order",
      cell: (event: Wire.Event) =>
        event.order_id === null
          ? <span class="muted">unreadable</span>
          : <a href={Route.to(["orders", event.order_id])}>{event.order_id}</a>
    },
    { name: "Says", cell: (event: Wire.Event) => event.says ?? "–" },
    { name: "State", cell: (event: Wire.Event) => <StatePill state={event.state} /> },
    { name: "Attempts", kind: "num" as const, cell: (event: Wire.Event) => event.attempts },
    { name: "Written", cell: (event: Wire.Event) => <Time at={event.created_at} /> },
    {
      name: "Until",
      cell: (event: Wire.Event) =>
        event.reserved_to === null ? "" : (
          <>
            <Time at={event.reserved_to} /> <span class="muted small">{holder(event)}</span>
          </>
        )
    },
    { name: "Last error", kind: "long" as const, cell: (event: Wire.Event) => event.last_error ?? "" }
  ]
}

const sumBy = (groups: Wire.Events["groups"], state: Wire.EventState) =>
  (groups ?? []).filter((group) => group.state === state).reduce((sum, { count }) => sum + count, 0)

/** The selection of a repair: the chosen events, or all that the filter finds. */
const selectionOf = (chosen: Chosen, everything: boolean, orderId: string, error: string) =>
  !everything
    ? { event_ids: [...chosen] }
    : orderId === "" && error === ""
    ? { all: true }
    : { ...(orderId === "" ? {} : { order_ids: [orderId] }), ...(error === "" ? {} : { error }) }

/** Events that are not published: counts, filter, selection and repair. */
export const Events = () => {
  const { query } = Route.route.use()
  const may = Session.useMay("operations:change")
  const [state, error, order] = ["state", "error", "order"].map((name) => query.get(name) ?? "") as [
    string,
    string,
    string
  ]
  const [chosen, choose] = useState<Chosen>(new Set())
  const [everything, setEverything] = useState(false)
  const [verb, setVerb] = useState<"retry" | "skip">()
  const pages = usePages(JSON.stringify([state, error, order]), async (after, signal) => {
    const page = await api.events({ state, error, order_id: order, after, limit: 100 }, signal)
    return { items: page.events, next: page.next, groups: page.groups }
  })
  const groups = (pages.answer.value as { readonly groups: Wire.Events["groups"] } | undefined)?.groups ?? []
  const change = (part: { readonly [name: string]: string }) => {
    choose(new Set())
    setEverything(false)
    Route.filter({ state, error, order, ...part })
  }
  const search = (event: SubmitEvent) => {
    event.preventDefault()
    const data = new FormData(event.currentTarget as HTMLFormElement)
    change({ order: String(data.get("order")).trim(), error: String(data.get("error")).trim() })
  }
  const all = pages.items.length > 0 && pages.items.every(({ id }) => chosen.has(id))
  const selects = everything || chosen.size > 0
  const what = everything
    ? (error === "" && order === "" ? "all dead and refused events" : "all that the filter finds")
    : `${chosen.size} selected`
  return (
    <>
      <div class="chips" role="group" aria-label="State">
        <button type="button" class="chip" aria-pressed={state === ""} onClick={() => change({ state: "" })}>
          all
        </button>
        {states.map((one) => (
          <button
            type="button"
            class="chip"
            key={one.state}
            aria-pressed={state === one.state}
            onClick={() => change({ state: one.state })}
          >
            {one.name}
            {state === "" || state === one.state
              ? (
                <>
                  <b>{sumBy(groups, one.state).toLocaleString("en")}</b>
                </>
              )
              : null}
          </button>
        ))}
      </div>
      <form class="row" onSubmit={search} role="search" key={`${order}/${error}`}>
        <label>
          Order id<input
            name="order"
            defaultValue={order}
            inputMode="numeric"
            pattern="[1-9][0-9]{0,18}"
            title="digits"
          />
        </label>
        <label>
          Last error contains<input name="error" defaultValue={error} class="wide" />
        </label>
        <button type="submit">Filter</button>
        <span class="grow" />
        <button type="button" onClick={pages.reload}>Refresh</button>
      </form>
      {groups.filter(({ last_error }) => last_error !== null).length === 0 ?
        null :
        (
          <ul class="small" aria-label="Errors">
            {groups.filter(({ last_error }) => last_error !== null).slice(0, 6).map((group) => (
              <li key={`${group.state}${group.last_error}`}>
                {group.count.toLocaleString("en")} {group.state}, oldest <Time at={group.oldest} />:{" "}
                <button
                  type="button"
                  class="link"
                  onClick={() =>
                    change({ error: group.last_error ?? "" })}
                >
                  {group.last_error}
                </button>
              </li>
            ))}
          </ul>
        )}
      {may && pages.items.length > 0 ?
        (
          <div class="row">
            <label class="check">
              <input
                type="checkbox"
                checked={all}
                onChange={(event) =>
                  choose(
                    new Set(
                      event.currentTarget.checked
                        ? pages.items.map(({ id }) => id)
                        : []
                    )
                  )}
              />
              the {pages.items.length} shown
            </label>
            <label class="check">
              <input
                type="checkbox"
                checked={everything}
                onChange={(event) => setEverything(event.currentTarget.checked)}
              />
              all that the filter finds
            </label>
            <button type="button" class="main" disabled={!selects} onClick={() => setVerb("retry")}>Retry …</button>
            <button type="button" disabled={!selects} onClick={() => setVerb("skip")}>Skip …</button>
          </div>
        ) :
        null}
      <Shown answer={pages.answer}>
        {() => (
          <>
            <Table
              caption="Events that are not published"
              columns={columnsOf(chosen, choose, pages.items, may && !everything)}
              rows={pages.items}
              keyOf={({ id }) => id}
              empty={state === "" && error === "" && order === "" ? "Every event is published." : "No event matches."}
            />
            <More pages={pages} />
          </>
        )}
      </Shown>
      {verb === undefined ? null : (
        <Change
          noun="event"
          title={verb === "retry" ? `Send again: ${what}` : `Give up: ${what}`}
          verb={verb === "retry" ? "Retry" : "Skip"}
          danger={verb === "skip"}
          ask={({ dry_run, reason }) =>
            api.repair(verb, { reason, dry_run, ...selectionOf(chosen, everything, order, error) })}
          onClose={() => setVerb(undefined)}
          onDone={() => {
            choose(new Set())
            pages.reload()
          }}
        >
          <p>
            {verb === "retry"
              ? "Dead events are sent again, and refused ones without their pause. Remove the cause of the error first."
              : "Dead events count as DONE without being sent: the readers of topic payment never learn of these transitions."}
          </p>
        </Change>
      )}
    </>
  )
}
