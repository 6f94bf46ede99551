import { useEffect, useRef, useState } from "preact/hooks"
import { Problem, refusalOf } from "./Answer.js"
import type { Refused } from "./Calls.js"
import { api } from "./Calls.js"
import { done } from "./Change.js"
import * as Live from "./Live.js"
import { DoctorPage } from "./pages/Doctor.js"
import { LetterPage } from "./pages/Letter.js"
import { LettersPage } from "./pages/Letters.js"
import { OrderPage } from "./pages/Order.js"
import { OrdersPage } from "./pages/Orders.js"
import { OutboxPage } from "./pages/Outbox.js"
import { RunbookPage } from "./pages/Runbook.js"
import { SagaPage } from "./pages/Saga.js"
import { SignInPage } from "./pages/SignIn.js"
import { TopicPage } from "./pages/Topic.js"
import { route } from "./Route.js"
import type { Route } from "./Route.js"
import * as Session from "./Session.js"
import { ZoneButton } from "./Time.js"
import { Invitation, Tour, TourButton } from "./tour/Tour.js"

const pages = [
  { path: "", name: "Saga" },
  { path: "orders", name: "Orders" },
  { path: "outbox", name: "Outbox" },
  { path: "dead-letters", name: "Dead letters" },
  { path: "topics", name: "Topics" },
  { path: "doctor", name: "Doctor" }
] as const

const page = ({ parts: [first, second, third] }: Route) => {
  switch (first) {
    case undefined:
      return <SagaPage />
    case "orders":
      return second === undefined ? <OrdersPage /> : <OrderPage key={second} orderId={second} />
    case "outbox":
      return <OutboxPage tab={second ?? "events"} />
    case "dead-letters":
      return second !== undefined && third !== undefined
        ? <LetterPage key={`${second}@${third}`} partition={second} offset={third} />
        : <LettersPage />
    case "topics":
      return <TopicPage key={second ?? "inventory"} name={second ?? "inventory"} />
    case "doctor":
      return <DoctorPage />
    case "runbook":
      return <RunbookPage section={second} />
    default:
      return (
        <div class="card">
          <h1 tabIndex={-1}>There is no such page</h1>
          <p>
            <a href="#/">Back to the saga</a>
          </p>
        </div>
      )
  }
}

const Badge = ({ count, says }: { readonly count: number | null | undefined; readonly says: string }) =>
  count === undefined || count === null || count === 0 ? null : (
    <span class="badge" title={says}>
      {count > 999 ? "999+" : count}
      <span class="hidden-text">{says}</span>
    </span>
  )

const Stream = () => {
  const { stream } = Live.live.use()
  const [kind, says] = stream === "live"
    ? ["ok", "live"]
    : stream === "lost"
    ? ["bad", "connection lost, trying again"]
    : ["warn", stream === "paused" ? "paused" : "connecting"]
  return (
    <span role="status" data-stream={stream}>
      <span class={`dot ${kind}`} />
      {says}
    </span>
  )
}

const Top = ({ current }: { readonly current: string }) => {
  const session = Session.session.use()
  const { saga } = Live.live.use()
  const signOut = () => void api.signOut().then((next) => Session.session.set(next), () => Session.lost())
  return (
    <header class="top">
      <a class="brand" href="#/">
        <span class="logo" aria-hidden="true" />Payments
      </a>
      <nav aria-label="Pages">
        {pages.map(({ name, path }) => (
          <a href={`#/${path}`} aria-current={current === path ? "page" : undefined}>
            {name}
            {path === "outbox" ? <Badge count={saga?.now.dead} says="dead events" /> : null}
            {path === "dead-letters" ? <Badge count={saga?.now.dead_letters} says="dead letters" /> : null}
          </a>
        ))}
      </nav>
      <span class="grow" />
      <div class="status">
        <Stream />
        <ZoneButton />
        {session?.local === true ? <TourButton /> : null}
        {session?.local === true ? <span>local stack</span> : (
          <span>
            {session?.name} <button type="button" class="plain" onClick={signOut}>Sign out</button>
          </span>
        )}
      </div>
    </header>
  )
}

const Toast = () => {
  const says = done.use()
  useEffect(() => {
    if (says === undefined) return
    const timer = setTimeout(() => done.set(undefined), 8_000)
    return () => clearTimeout(timer)
  }, [says])
  return (
    <div aria-live="polite">
      {says === undefined ? null : <div class="toast note ok" data-done>{says}</div>}
    </div>
  )
}

/** Loses nothing that is on the page: it says that the data may be old. */
const Lost = () => {
  const { at, stream } = Live.live.use()
  return stream !== "lost" ? null : (
    <div class="note warn" role="alert" data-lost>
      The connection to the server is lost{at === undefined
        ? ""
        : `; live figures are those of ${at.toLocaleTimeString("en-GB")}`}. The page tries again by itself.
    </div>
  )
}

const Frame = () => {
  const now = route.use()
  const local = Session.session.use()?.local === true
  const main = useRef<HTMLElement>(null)
  const current = now.parts[0] ?? ""
  const path = now.parts.join("/")
  const first = useRef(true)
  useEffect(() => {
    const heading = main.current?.querySelector("h1")
    document.title = `${heading?.textContent ?? "Payments"} · Payments`
    // a screen reader begins with the heading of the new page
    if (!first.current) {
      heading?.focus({ preventScroll: true })
      scrollTo(0, 0)
    }
    first.current = false
  }, [path])
  return (
    <>
      <a
        class="skip"
        href="#content"
        onClick={(event) => {
          event.preventDefault()
          main.current?.querySelector<HTMLElement>("h1")?.focus()
        }}
      >
        Skip to the content
      </a>
      <Top current={current} />
      <main id="content" ref={main}>
        <Lost />
        {local && current === "" ? <Invitation /> : null}
        <Tour />
        {page(now)}
      </main>
      <Toast />
    </>
  )
}

/** The console: the sign-in page, or the frame with the page of the address. */
export const App = () => {
  const session = Session.session.use()
  const [error, setError] = useState<Refused>()
  const load = () => {
    setError(undefined)
    api.session().then((next) => Session.session.set(next), (failure) => setError(refusalOf(failure)))
  }
  useEffect(load, [])
  useEffect(() => {
    Live.start()
  }, [])
  useEffect(() => {
    if (session?.signed_in === true) Live.restart()
  }, [session?.signed_in, session?.name])
  if (error !== undefined) {
    return (
      <main>
        <Problem error={error} retry={load} />
      </main>
    )
  }
  if (session === undefined) {
    return (
      <main>
        <p class="muted">Loading …</p>
      </main>
    )
  }
  return session.signed_in ? <Frame /> : <SignInPage />
}
