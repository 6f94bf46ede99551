import { Shown } from "../Answer.js"
import { api } from "../Calls.js"
import { More, usePages } from "../Pages.js"
import * as Route from "../Route.js"
import { Table } from "../Table.js"
import { Time } from "../Time.js"
import type * as Wire from "../Wire.js"

const columns = [
  { name: "When", cell: (row: Wire.Operation) => <Time at={row.at} /> },
  { name: "Who", cell: (row: Wire.Operation) => row.operator },
  { name: "What", cell: (row: Wire.Operation) => row.action },
  {
    name: "On",
    cell: (row: Wire.Operation) => (
      <>
        {row.order_id === null ? null : <a href={Route.to(["orders", row.order_id])}>order {row.order_id}</a>}
        {row.event_id === null ? "" : ` event ${row.event_id}`}
        {row.place === null ? "" : ` ${row.place.split(" ")[0]}`}
      </>
    )
  },
  { name: "Why", kind: "long" as const, cell: (row: Wire.Operation) => row.reason },
  {
    name: "Change",
    kind: "long" as const,
    cell: (row: Wire.Operation) => (
      <details>
        <summary>before and after</summary>
        <pre tabIndex={0}>{JSON.stringify({ before: row.before, after: row.after }, null, 2)}</pre>
      </details>
    )
  }
]

/** Who changed what, when and why. */
export const Operations = () => {
  const pages = usePages("operations", async (after, signal) => {
    const page = await api.operations({ after, limit: 50 }, signal)
    return { items: page.operations, next: page.next }
  })
  return (
    <Shown answer={pages.answer}>
      {() => (
        <>
          <Table
            caption="Operations"
            columns={columns}
            rows={pages.items}
            keyOf={({ id }) => id}
            empty="No operator has changed anything."
          />
          <More pages={pages} />
        </>
      )}
    </Shown>
  )
}
