import { Blocked } from "../outbox/Blocked.js"
import { Events } from "../outbox/Events.js"
import { Operations } from "../outbox/Operations.js"
import { Replay } from "../outbox/Replay.js"
import * as Route from "../Route.js"

const tabs = [
  { path: "events", name: "Not published" },
  { path: "blocked", name: "Blocked orders" },
  { path: "replay", name: "Announce again" },
  { path: "operations", name: "Log of operations" }
] as const

/** The outbox: events that are not published, what dead ones hold up, replays, and who changed what. */
export const OutboxPage = ({ tab }: { readonly tab: string }) => (
  <>
    <div class="head">
      <h1 tabIndex={-1}>Outbox</h1>
      <span class="muted">events between PostgreSQL and topic payment</span>
    </div>
    <nav class="tabs" aria-label="Views of the outbox">
      {tabs.map(({ name, path }) => (
        <a key={path} href={Route.to(["outbox", path])} aria-current={tab === path ? "page" : undefined}>{name}</a>
      ))}
    </nav>
    <section class="card stack" aria-label={tabs.find(({ path }) => path === tab)?.name}>
      {tab === "blocked"
        ? <Blocked />
        : tab === "replay"
        ? <Replay />
        : tab === "operations"
        ? <Operations />
        : <Events />}
    </section>
  </>
)
