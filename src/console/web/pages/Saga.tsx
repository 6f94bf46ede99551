import * as Live from "../Live.js"
import * as Route from "../Route.js"
import { Flow } from "../saga/Flow.js"
import { Sparks } from "../saga/Sparks.js"
import { Table } from "../Table.js"
import { Since, Time } from "../Time.js"
import type * as Wire from "../Wire.js"

const places: { readonly [where: string]: string } = {
  "dead-letters": "#/dead-letters",
  "outbox": "#/outbox",
  "relay": "#/outbox",
  "consumer": "#/topics/inventory",
  "inventory": "#/topics/inventory"
}

const Look = ({ where }: { readonly where: string }) => {
  const place = places[where]
  return place === undefined ? null : <a href={place}>Look</a>
}

/** What stands still, the most urgent first. */
const Standing = ({ saga }: { readonly saga: Wire.Saga }) =>
  saga.standing.length === 0
    ? (
      <div class="note ok" data-standing="0">
        <span class="dot ok" />Everything moves: nothing stands still.
      </div>
    )
    : (
      <section class="standing" aria-label="What stands still" data-standing={saga.standing.length}>
        {saga.standing.map((one) => (
          <div class={`note ${one.urgent ? "bad" : "warn"}`} key={`${one.where} ${one.part}`}>
            <b>{one.says}</b>
            {one.since === null ? null : (
              <span>
                for <Since at={one.since} />, since <Time at={one.since} />
              </span>
            )}
            <span class="grow" />
            <Look where={one.where} />
            {one.runbook === null ? null : <a href={Route.to(["runbook", one.runbook])}>What to do</a>}
          </div>
        ))}
      </section>
    )

const stateKind = ({ ok, required, state }: Wire.PartState) =>
  ok ? "ok" : state === "starting" ? "info" : required ? "bad" : "warn"

const columns = [
  { name: "Part", cell: (part: Wire.PartState) => <b>{part.name}</b> },
  { name: "State", cell: (part: Wire.PartState) => <span class={`pill ${stateKind(part)}`}>{part.state}</span> },
  { name: "Since", cell: (part: Wire.PartState) => <Time at={part.since} /> },
  {
    name: "Why",
    kind: "long" as const,
    cell: (part: Wire.PartState) => (
      <>
        {part.waiting_for === null
          ? (part.required ? "" : <span class="muted">the process is ready without it</span>)
          : `waits for ${part.waiting_for}`}
        {part.reason === null ? "" : `: ${part.reason}`}
        {part.runbook === null ? null : (
          <>
            {" "}
            <a href={Route.to(["runbook", part.runbook])}>What to do</a>
          </>
        )}
      </>
    )
  }
]

const order = (part: Wire.PartState) => part.ok ? 2 : part.required ? 0 : 1

/** The start page: the flow, what stands still, the last 15 minutes, and each part. */
export const SagaPage = () => {
  const { saga } = Live.live.use()
  return (
    <>
      <div class="head">
        <h1 tabIndex={-1}>Saga</h1>
        <span class="muted">an order from topic inventory to topic payment</span>
      </div>
      {saga === undefined ? <p class="muted" role="status">Waiting for the first figures …</p> : (
        <>
          <Standing saga={saga} />
          <section class="card" aria-label="The flow now">
            <Flow saga={saga} />
          </section>
          <Sparks saga={saga} />
          <section class="card">
            <h2>Parts of this process</h2>
            <Table
              caption="Parts of this process"
              columns={columns}
              keyOf={({ name }) => name}
              empty="No parts."
              rows={[...saga.parts].sort((a, b) => order(a) - order(b))}
            />
          </section>
        </>
      )}
    </>
  )
}
