import { useEffect, useState } from "preact/hooks"
import { Shown, useAnswer } from "../Answer.js"
import { api } from "../Calls.js"
import { Change } from "../Change.js"
import { TimeLine } from "../order/TimeLine.js"
import { RecordView } from "../RecordView.js"
import * as Route from "../Route.js"
import * as Session from "../Session.js"
import { Time, Told } from "../Time.js"
import type * as Wire from "../Wire.js"
import { statusKind } from "./Orders.js"

/** States in which the story goes on by itself: the page asks again. */
const underWay = new Set(["unread", "event-due", "event-leased", "event-backing-off"])

const conclusionKind = (state: string) =>
  state === "complete" || state === "created"
    ? "ok"
    : underWay.has(state) || state === "ignored" || state === "untold"
    ? "warn"
    : "bad"

const Actions = ({ reload, story }: { readonly story: Wire.Story; readonly reload: () => void }) => {
  const may = Session.useMay("payments:settle")
  const [verb, setVerb] = useState<"pay" | "refuse">()
  if (!may || story.payment === null) return null
  const settled = story.payment.status !== "CREATED"
  return (
    <div class="row">
      <button type="button" class="main" disabled={settled} onClick={() => setVerb("pay")}>Pay</button>
      <button type="button" disabled={settled} onClick={() => setVerb("refuse")}>Refuse</button>
      {verb === undefined ? null : (
        <Change
          noun="payment"
          title={`${verb === "pay" ? "Pay" : "Refuse"} order ${story.order_id}?`}
          verb={verb === "pay" ? "Pay" : "Refuse"}
          danger={verb === "refuse"}
          onClose={() => setVerb(undefined)}
          onDone={reload}
          ask={({ dry_run, reason }) =>
            api.settle(story.order_id, verb, { reason, dry_run }).then((settled) => ({
              planned: settled.before === "CREATED" ? 1 : 0,
              changed: settled.changed ? 1 : 0,
              left_out: [],
              unchanged: 0,
              more: false,
              dry_run,
              run: ""
            }))}
        >
          <p>
            The payment becomes{" "}
            <b>{verb === "pay" ? "COMPLETED" : "FAILED"}</b>, and an event announces it. This cannot be undone.
          </p>
        </Change>
      )}
    </div>
  )
}

/** Why a topic is not known, or which part of it was searched; nothing for a topic that was searched whole. */
const Searched = ({ search: { problem, since, topic, until } }: { readonly search: Wire.Searched }) =>
  problem === undefined && since === undefined ? null : (
    <p class="small muted">
      Topic {topic}: {problem === undefined ?
        (
          <>
            searched from <Time at={since!} />
            {until === undefined ? "" : (
              <>
                {" "}to <Time at={until} />
              </>
            )} only
          </>
        ) :
        `not read: ${problem}`}
    </p>
  )

const Whole = ({ reload, story }: { readonly story: Wire.Story; readonly reload: () => void }) => (
  <>
    <div class="head">
      <h1 tabIndex={-1}>Order {story.order_id}</h1>
      {story.payment === null
        ? <span class="pill warn">no payment</span>
        : <span class={`pill ${statusKind(story.payment.status)}`} data-status>{story.payment.status}</span>}
      <span class="grow" />
      <Actions story={story} reload={reload} />
    </div>
    <div class={`note ${conclusionKind(story.state)}`} data-state={story.state}>
      <p>
        <Told text={story.says} />
      </p>
      {story.events.some(({ status }) => status !== "DONE")
        ? (
          <p>
            <a href={`#/outbox?order=${story.order_id}`}>Its events in the outbox</a>
          </p>
        )
        : null}
      {story.command === null ? null : (
        <p class="small">
          On the command line: <code>{story.command}</code>
        </p>
      )}
    </div>
    <section class="card">
      <h2>What happened</h2>
      <TimeLine story={story} />
    </section>
    <section class="card stack">
      <h2>Raw records</h2>
      {story.raw.length === 0 && Object.values(story.searched).every(({ problem }) => problem === undefined)
        ? <p class="muted">No record of this order was found on the topics.</p>
        : null}
      {story.raw.map((record) => (
        <details key={`${record.topic}/${record.partition}@${record.offset}`}>
          <summary>{record.topic}/{record.partition}@{record.offset}</summary>
          <RecordView record={record} />
        </details>
      ))}
      {story.trace_ids.length === 0
        ? null
        : <p class="small">Traces: {story.trace_ids.map((id) => [<code key={id}>{id}</code>, " "])}</p>}
      {Object.values(story.searched).map((search) => <Searched key={search.topic} search={search} />)}
    </section>
  </>
)

/** The story of one order. */
export const OrderPage = ({ orderId }: { readonly orderId: string }) => {
  const answer = useAnswer(`order ${orderId}`, (signal) => api.story(orderId, signal))
  const state = answer.value?.state ?? answer.error?.tag
  const isUnderWay = state !== undefined && (underWay.has(state) || state === "NotFound")
  useEffect(() => {
    if (!isUnderWay) return
    let left = 90
    const timer = setInterval(() => {
      if (!document.hidden && left-- > 0) answer.reload()
    }, 2_000)
    return () => clearInterval(timer)
  }, [isUnderWay])
  return (
    <>
      <p class="small">
        <a href={Route.to(["orders"])}>Orders</a>
      </p>
      {answer.value !== undefined
        ? <Whole story={answer.value} reload={answer.reload} />
        : (
          <>
            <h1 tabIndex={-1}>Order {orderId}</h1>
            {answer.error?.tag === "NotFound"
              ? (
                <div class="note warn" role="status" data-state="unknown">
                  <p>{answer.error.message}</p>
                  <p>This page looks again by itself.</p>
                </div>
              )
              : <Shown answer={answer}>{() => null}</Shown>}
          </>
        )}
    </>
  )
}
