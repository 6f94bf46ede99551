import { useState } from "preact/hooks"
import { api } from "../Calls.js"
import { Change } from "../Change.js"
import * as Session from "../Session.js"

const ids = (text: string) => text.split(/[\s,]+/).filter((id) => /^[1-9]\d{0,18}$/.test(id))
const isoOf = (local: string) => local === "" ? undefined : new Date(local).toISOString()

/** Announces published events again: the topic, or records of it, were lost. */
export const Replay = () => {
  const may = Session.useMay("operations:change")
  const [orders, setOrders] = useState("")
  const [events, setEvents] = useState("")
  const [since, setSince] = useState("")
  const [until, setUntil] = useState("")
  const [missing, setMissing] = useState(false)
  const [asking, setAsking] = useState(false)
  const chosen = ids(orders).length + ids(events).length > 0 || since !== "" || until !== "" || missing
  const [from, to] = [isoOf(since), isoOf(until)]
  return (
    <>
      <p>
        Announces events again that are DONE, after the topic or records of it were lost. An event goes together with
        the later events of its order. Orders drops a repeat only within 15 minutes; a replay of older events asks for a
        second consent.
      </p>
      <form
        class="stack"
        onSubmit={(event) => {
          event.preventDefault()
          setAsking(true)
        }}
      >
        <div class="row">
          <label>
            Order ids<input class="wide" value={orders} onInput={(event) => setOrders(event.currentTarget.value)} />
          </label>
          <label>
            Event ids<input class="wide" value={events} onInput={(event) => setEvents(event.currentTarget.value)} />
          </label>
        </div>
        <div class="row">
          <label>
            Sent since<input
              type="datetime-local"
              value={since}
              onInput={(event) => setSince(event.currentTarget.value)}
            />
          </label>
          <label>
            until<input type="datetime-local" value={until} onInput={(event) => setUntil(event.currentTarget.value)} />
          </label>
          <label class="check">
            <input type="checkbox" checked={missing} onChange={(event) => setMissing(event.currentTarget.checked)} />
            only events that the audit misses on the topic (reads everything)
          </label>
        </div>
        <div>
          <button type="submit" class="main" disabled={!chosen || !may}>Replay …</button>
        </div>
        {may ? null : <p class="muted">Your token lacks the scope operations:change.</p>}
      </form>
      {asking ?
        (
          <Change
            noun="event"
            title="Announce events again"
            verb="Replay"
            danger
            ask={({ consents, dry_run, reason }) =>
              api.replay({
                reason,
                dry_run,
                ...(ids(orders).length > 0 ? { order_ids: ids(orders) } : {}),
                ...(ids(events).length > 0 ? { event_ids: ids(events) } : {}),
                ...(from === undefined ? {} : { since: from }),
                ...(to === undefined ? {} : { until: to }),
                ...(missing ? { missing: true } : {}),
                ...consents
              })}
            onClose={() => setAsking(false)}
            onDone={() => undefined}
          />
        ) :
        null}
    </>
  )
}
