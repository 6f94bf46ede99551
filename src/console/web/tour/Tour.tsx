import type { ComponentChildren } from "preact"
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks"
import { api } from "../Calls.js"
import * as Route from "../Route.js"
import * as Store from "../Store.js"
import type * as Wire from "../Wire.js"
import * as Example from "./Example.js"

/** Whether the tour is shown. */
const shown = Store.make(false)

/** What the reader has looked at, and what the server shows of the order. */
interface Progress {
  readonly visited: ReadonlySet<string>
  readonly orderId: string | undefined
  readonly records: number
  readonly story: Wire.Story | undefined
}

const start: Progress = { visited: new Set(), orderId: undefined, records: 0, story: undefined }
const progress = Store.make(start)

interface Step {
  readonly name: string
  readonly done: (now: Progress) => boolean
  /** What to do. */
  readonly how: (orderId: string, now: Progress) => ComponentChildren
  /** What was seen, when it is done. */
  readonly saw: (now: Progress) => string
}

const eventOf = ({ story }: Progress, ...says: ReadonlyArray<string>) =>
  story?.events.find((event) => says.includes(event.says ?? ""))
const isDone = (event: { readonly status: string } | undefined) => event?.status === "DONE"
const placeOf = (event: Wire.Story["events"][number] | undefined) => {
  const record = event?.records[0]
  return record === undefined ? "" : `, ${record.topic}/${record.partition}@${record.offset}`
}
const order = (orderId: string) => <a href={Route.to(["orders", orderId])}>order {orderId}</a>
const inventory = <a href="#/topics/inventory">topic inventory</a>

const steps: ReadonlyArray<Step> = [
  {
    name: "See both topics",
    done: ({ visited }) => visited.has("inventory") && visited.has("payment"),
    how: (_orderId, { visited }) => (
      <>
        Open {inventory}
        {visited.has("inventory") ? " ✓" : ""}: another service writes there that the stock of an order is reserved.
        Then open <a href="#/topics/payment">topic payment</a>
        {visited.has("payment") ? " ✓" : ""}: Payments announces there each change of a payment.
      </>
    ),
    saw: () => "inventory comes in, payment goes out"
  },
  {
    name: "Push the record of the order",
    done: ({ records }) => records > 0,
    how: (orderId) => (
      <>
        On {inventory}, press <b>Write a record</b>, and then <b>Write</b>. The record of order {orderId} is filled in.
      </>
    ),
    saw: ({ story }) => {
      const [record] = story?.records ?? []
      return record === undefined ? "written" : `${record.topic}/${record.partition}@${record.offset}`
    }
  },
  {
    name: "The payment is CREATED",
    done: ({ story, visited }) => visited.has("order") && (story?.payment ?? null) !== null,
    how: (orderId) => <>The consumer takes the record. Look at {order(orderId)}.</>,
    saw: () => "a row in table payment, and with it one in table event, in one transaction"
  },
  {
    name: "The event is WAIT, and then DONE",
    done: (now) => isDone(eventOf(now, "CREATED")),
    how: (orderId) => (
      <>The relay sends the waiting event to topic payment, and marks it: see the time line of {order(orderId)}.</>
    ),
    saw: (now) => `event ${eventOf(now, "CREATED")?.id} has gone to the topic${placeOf(eventOf(now, "CREATED"))}`
  },
  {
    name: "Push the same record again",
    done: ({ records, story }) =>
      records > 1 && (story?.records.filter(({ decision }) => decision.startsWith("repeat")).length ?? 0) > 0,
    how: () => <>Write it once more on {inventory}, unchanged. It is a repeat: the key is known.</>,
    saw: () => "a repeat: no second payment"
  },
  {
    name: "Pay the order",
    done: ({ story }) => (story?.payment ?? undefined) !== undefined && story!.payment!.status !== "CREATED",
    how: (orderId) => (
      <>
        On the page of {order(orderId)}, press <b>Pay</b>, give a reason, and confirm.
      </>
    ),
    saw: ({ story }) => `the payment is ${story?.payment?.status}`
  },
  {
    name: "See the second event",
    done: (now) => isDone(eventOf(now, "COMPLETED", "FAILED")),
    how: (orderId) => <>The time line of {order(orderId)} shows the second event, and its place on topic payment.</>,
    saw: (now) =>
      `event ${eventOf(now, "COMPLETED", "FAILED")?.id} is on the topic${placeOf(eventOf(now, "COMPLETED", "FAILED"))}`
  }
]

const look = async () => {
  const { orderId } = await Example.find()
  const story = await api.story(orderId).catch(() => undefined)
  progress.set({ ...progress.get(), orderId, story, records: story?.records.length ?? 0 })
}

const begin = () => {
  Example.forget()
  progress.set(start)
  shown.set(true)
}

const invited = Store.make(localStorage.getItem("tour") === null)

/** Invites a newcomer to the tour, once. */
export const Invitation = () => {
  const on = shown.use()
  const isNew = invited.use()
  const answer = () => {
    localStorage.setItem("tour", "known")
    invited.set(false)
  }
  return !isNew || on ? null : (
    <div class="note info row" data-invitation>
      <span>New here? The tour walks one order from topic to topic, in five minutes.</span>
      <span class="grow" />
      <button
        type="button"
        class="main"
        onClick={() => {
          answer()
          begin()
        }}
      >
        Begin the tour
      </button>
      <button type="button" onClick={answer}>Not now</button>
    </div>
  )
}

/** Begins the tour, or ends it. */
export const TourButton = () => {
  const on = shown.use()
  return (
    <button type="button" class="plain" aria-pressed={on} onClick={() => on ? shown.set(false) : begin()}>
      {on ? "End the tour" : "Tour"}
    </button>
  )
}

/** The steps of the tour; it sees by itself which ones are done. */
const Steps = () => {
  const now = progress.use()
  const route = Route.route.use()
  const [away, setAway] = useState(false)
  useEffect(() => {
    const [page, which] = route.parts
    const seen = page === "topics"
      ? which ?? "inventory"
      : page === "orders" && which === now.orderId
      ? "order"
      : undefined
    if (seen !== undefined) progress.set({ ...progress.get(), visited: new Set([...progress.get().visited, seen]) })
  }, [route.parts.join("/"), now.orderId])
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined
    let ended = false
    // the next look begins after this one: a slow server is not asked twice at once
    const ask = async () => {
      if (!document.hidden) await look().then(() => setAway(false), () => setAway(true))
      if (!ended) timer = setTimeout(ask, 1_000)
    }
    void ask()
    return () => {
      ended = true
      clearTimeout(timer)
    }
  }, [])
  const place = useRef<HTMLElement>(null)
  useLayoutEffect(() => place.current?.focus(), [])
  // a step counts when those before it are done: the reader sees one after the other
  const current = steps.findIndex((step) => !step.done(now))
  const done = current < 0 ? steps.length : current
  const orderId = now.orderId ?? "111"
  return (
    <section class="tour" aria-label="Tour" ref={place} tabIndex={-1} data-step={current < 0 ? "end" : current + 1}>
      <div class="row">
        <b>Tour: one order, from topic to topic</b>
        <span class="grow" />
        <button
          type="button"
          class="plain"
          onClick={() =>
            shown.set(false)}
        >
          Close
        </button>
      </div>
      {away ? <p class="muted" role="status">The server does not answer; the tour waits for it.</p> : null}
      <ol>
        {steps.map((step, index) => (
          <li
            key={step.name}
            class={index < done ? "done" : ""}
            aria-current={index === current ? "step" : undefined}
          >
            {step.name}
            {index < done ? <span class="saw">: {step.saw(now)}</span> : null}
            {index === current ? <p>{step.how(orderId, now)}</p> : null}
          </li>
        ))}
      </ol>
      {current < 0
        ? (
          <p>
            That is the whole saga of {order(orderId)}. Its raw records are on its page.{" "}
            <button type="button" onClick={begin}>Again, with another order</button>
          </p>
        )
        : null}
    </section>
  )
}

/** The tour, while it is shown. */
export const Tour = () => shown.use() ? <Steps /> : null
