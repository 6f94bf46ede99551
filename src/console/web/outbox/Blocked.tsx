import { Shown, useAnswer } from "../Answer.js"
import { api } from "../Calls.js"
import * as Route from "../Route.js"
import { Table } from "../Table.js"
import { counted, Time } from "../Time.js"
import type * as Wire from "../Wire.js"

type Row = Wire.Blocked["events"][number]

const columns = [
  { name: "Event", cell: (row: Row) => row.id },
  {
    name: "Order",
    cell: (row: Row) =>
      row.order_id === null ? "unreadable" : <a href={Route.to(["orders", row.order_id])}>{row.order_id}</a>
  },
  { name: "Says", cell: (row: Row) => row.says ?? "–" },
  { name: "Attempts", kind: "num" as const, cell: (row: Row) => row.attempts },
  { name: "Behind it", kind: "num" as const, cell: (row: Row) => row.behind },
  { name: "Waiting since", cell: (row: Row) => row.behind_since === null ? "" : <Time at={row.behind_since} /> },
  { name: "Last error", kind: "long" as const, cell: (row: Row) => row.last_error ?? "" }
]

/** Dead events, and what waits behind each. */
export const Blocked = () => {
  const answer = useAnswer("blocked", (signal) => api.blocked(signal))
  return (
    <Shown answer={answer}>
      {({ events, total }) => (
        <>
          <p>
            {counted(total.dead, "dead event")}. Behind: {counted(total.behind, "later event")} of the same orders.
          </p>
          <Table
            caption="Dead events"
            columns={columns}
            rows={events}
            keyOf={({ id }) => id}
            empty="No event is dead."
          />
          {events.length < total.dead ? <p class="muted small">The oldest {events.length} are shown.</p> : null}
        </>
      )}
    </Shown>
  )
}
