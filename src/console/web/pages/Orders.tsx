import { useState } from "preact/hooks"
import { Shown } from "../Answer.js"
import { api } from "../Calls.js"
import { More, usePages } from "../Pages.js"
import * as Route from "../Route.js"
import { Table } from "../Table.js"
import { counted, Time } from "../Time.js"
import type * as Wire from "../Wire.js"

export const statusKind = (status: string) => status === "COMPLETED" ? "ok" : status === "FAILED" ? "bad" : "info"

const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i
const digits = /^[1-9]\d{0,18}$/

const columns = [
  { name: "Order", cell: (order: Wire.Order) => <a href={Route.to(["orders", order.order_id])}>{order.order_id}</a> },
  {
    name: "Payment",
    cell: (order: Wire.Order) => <span class={`pill ${statusKind(order.status)}`}>{order.status}</span>
  },
  { name: "Created", cell: (order: Wire.Order) => <Time at={order.created_at} /> },
  { name: "Updated", cell: (order: Wire.Order) => <Time at={order.updated_at} /> },
  {
    name: "Events",
    cell: (order: Wire.Order) =>
      order.events_dead > 0
        ? <span class="pill bad">{order.events_dead} dead</span>
        : order.events_waiting > 0
        ? <span class="pill warn">{order.events_waiting} waiting</span>
        : <span class="muted">published</span>
  },
  { name: "Settled by", cell: (order: Wire.Order) => order.settled_by ?? order.reason ?? "" },
  {
    name: "idempotent_key",
    kind: "long" as const,
    cell: (order: Wire.Order) => <span class="mono small">{order.inventory_key}</span>
  }
]

const isoOf = (local: string | null) => local === null || local === "" ? undefined : new Date(local).toISOString()

/** Finds orders by id, key, status and time. */
export const OrdersPage = () => {
  const { query } = Route.route.use()
  const [text, setText] = useState(query.get("find") ?? "")
  const [wrong, setWrong] = useState<string>()
  const [status, from, until, find] = ["status", "from", "until", "find"].map((name) => query.get(name) ?? "") as [
    string,
    string,
    string,
    string
  ]
  const asked = {
    ...(uuid.test(find) ? { key: find } : {}),
    status,
    from: isoOf(from),
    until: isoOf(until)
  }
  const pages = usePages(JSON.stringify(asked), async (after, signal) => {
    const page = await api.orders({ ...asked, after, limit: 50 }, signal)
    return { items: page.orders, next: page.next, examined: page.examined }
  })
  const change = (part: { readonly [name: string]: string }) => Route.filter({ find, status, from, until, ...part })
  const search = (event: Event) => {
    event.preventDefault()
    const given = text.trim()
    setWrong(undefined)
    if (digits.test(given)) Route.go(Route.to(["orders", given]))
    else if (given === "" || uuid.test(given)) change({ find: given })
    else setWrong("Give an order id (digits) or an idempotent_key (UUID).")
  }
  return (
    <>
      <div class="head">
        <h1 tabIndex={-1}>Orders</h1>
        <span class="muted">newest first</span>
      </div>
      <section class="card stack" aria-label="Search">
        <form class="row" onSubmit={search} role="search">
          <label>
            Order id or idempotent_key
            <input
              class="wide"
              value={text}
              inputMode="text"
              aria-describedby="orders-wrong"
              onInput={(event) => setText(event.currentTarget.value)}
            />
          </label>
          <button type="submit" class="main">Find</button>
          <label>
            Payment
            <select value={status} onChange={(event) => change({ status: event.currentTarget.value })}>
              <option value="">any</option>
              <option>CREATED</option>
              <option>COMPLETED</option>
              <option>FAILED</option>
            </select>
          </label>
          <label>
            Created from<input
              type="datetime-local"
              value={from}
              onChange={(event) => change({ from: event.currentTarget.value })}
            />
          </label>
          <label>
            until<input
              type="datetime-local"
              value={until}
              onChange={(event) => change({ until: event.currentTarget.value })}
            />
          </label>
          <span class="grow" />
          <button type="button" onClick={pages.reload}>Refresh</button>
        </form>
        <p id="orders-wrong" class="small" role="alert">{wrong}</p>
        <Shown answer={pages.answer}>
          {() => (
            <>
              <Table
                caption="Orders"
                columns={columns}
                rows={pages.items}
                keyOf={(order) => order.order_id}
                empty={find === ""
                  ? `No payment matches; searched ${counted(pages.examined, "payment")}.`
                  : "No inventory record with this idempotent_key created a payment. An event has a key of its own: find its order on topic payment."}
              />
              <More pages={pages} says={`searched ${counted(pages.examined, "payment")}`} />
            </>
          )}
        </Shown>
      </section>
    </>
  )
}
