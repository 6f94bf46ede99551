import { BytesView } from "./Bytes.js"
import * as Route from "./Route.js"
import { Time } from "./Time.js"
import type * as Wire from "./Wire.js"

/** The order that a value names, also where the value is no inventory event; nothing when it names none. */
export const OrderLink = ({ bytes }: { readonly bytes: Wire.Bytes | null }) => {
  const id = /"order_?id"\s*:\s*"?([1-9]\d{0,18})\b/i.exec(bytes?.text ?? "")?.[1]
  return id === undefined ? null : <a href={Route.to(["orders", id])}>Order {id}</a>
}

/** A record of a topic: key, value and headers. */
export const RecordView = ({ record }: { readonly record: Wire.Record }) => (
  <div class="stack">
    <p class="small muted">
      {record.topic}/{record.partition}@{record.offset}, <Time at={record.at} millis />
      {record.unread === null ? null : <>; incomplete: {record.unread}</>} <OrderLink bytes={record.value} />
    </p>
    <BytesView name="value" bytes={record.value} />
    {record.key === null ? null : <BytesView name="key" bytes={record.key} />}
    {record.headers.length === 0 ? null : (
      <dl class="facts">
        {record.headers.map(({ name, value }, index) => [
          <dt class="mono" key={`${index} name`}>{name}</dt>,
          <dd class="mono" key={`${index} value`}>{value.text ?? `0x${value.hex}`}{value.cut ? "…" : ""}</dd>
        ])}
      </dl>
    )}
  </div>
)
