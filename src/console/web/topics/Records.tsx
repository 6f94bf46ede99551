import { short } from "../Bytes.js"
import { RecordView } from "../RecordView.js"
import { Table } from "../Table.js"
import { Time } from "../Time.js"
import type * as Wire from "../Wire.js"

const columns = [
  { name: "Place", cell: (record: Wire.Record) => <span class="mono nowrap">{record.partition}@{record.offset}</span> },
  { name: "Time", cell: (record: Wire.Record) => <Time at={record.at} millis /> },
  { name: "Key", cell: (record: Wire.Record) => <span class="mono">{short(record.key, 40)}</span> },
  {
    name: "Value",
    kind: "whole" as const,
    cell: (record: Wire.Record) => (
      <details>
        <summary class="mono">{short(record.value)}</summary>
        <RecordView record={record} />
      </details>
    )
  }
]

export const placeOf = ({ offset, partition }: Wire.Record) => `${partition}@${offset}`

/** Records as a table; each row opens to the whole record. */
export const Records = (
  { caption, empty, records }: {
    readonly caption: string
    readonly records: ReadonlyArray<Wire.Record>
    readonly empty: string
  }
) => <Table caption={caption} columns={columns} rows={records} keyOf={placeOf} empty={empty} />
