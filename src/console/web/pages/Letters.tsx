import { useState } from "preact/hooks"
import { Shown, useAnswer } from "../Answer.js"
import { api } from "../Calls.js"
import { Change } from "../Change.js"
import * as Route from "../Route.js"
import * as Session from "../Session.js"
import { Table } from "../Table.js"
import { counted, Time } from "../Time.js"
import type * as Wire from "../Wire.js"

const most = 200

const columns = [
  {
    name: "Letter",
    cell: (letter: Wire.Letter) => (
      <a href={Route.to(["dead-letters", String(letter.partition), letter.offset])}>
        {letter.partition}@{letter.offset}
      </a>
    )
  },
  { name: "When", cell: (letter: Wire.Letter) => <Time at={letter.at} /> },
  { name: "Reason", kind: "long" as const, cell: (letter: Wire.Letter) => letter.reason },
  { name: "Original", cell: (letter: Wire.Letter) => <span class="mono small">{letter.original}</span> },
  { name: "Bytes", kind: "num" as const, cell: (letter: Wire.Letter) => letter.value_bytes },
  {
    name: "Replayed",
    cell: (letter: Wire.Letter) =>
      letter.replays === 0
        ? letter.cut.length > 0
          ? <span class="pill warn">cut: {letter.cut.join(", ")}</span>
          : <span class="pill bad">open</span>
        : (
          <>
            {counted(letter.replays, "time")}, last <Time at={letter.replayed_at} /> by {letter.replayed_by}
          </>
        )
  }
]

/** Records that the service could not handle. */
export const LettersPage = () => {
  const { query } = Route.route.use()
  const may = Session.useMay("operations:change")
  const open = query.get("open") === "true"
  const error = query.get("error") ?? ""
  const [replaying, setReplaying] = useState(false)
  const answer = useAnswer(JSON.stringify([open, error]), (signal) => api.letters({ open, error, limit: most }, signal))
  const search = (event: SubmitEvent) => {
    event.preventDefault()
    const data = new FormData(event.currentTarget as HTMLFormElement)
    Route.filter({ error: String(data.get("error")).trim(), open: data.get("open") === null ? "" : "true" })
  }
  return (
    <>
      <div class="head">
        <h1 tabIndex={-1}>Dead letters</h1>
        <span class="muted">records that could not be handled, newest first</span>
      </div>
      <section class="card stack" aria-label="Dead letters">
        <form class="row" onSubmit={search} role="search" key={`${error}${open}`}>
          <label>
            Reason contains<input name="error" class="wide" defaultValue={error} />
          </label>
          <label class="check">
            <input type="checkbox" name="open" defaultChecked={open} />not replayed yet
          </label>
          <button type="submit">Filter</button>
          <span class="grow" />
          {may && (answer.value?.total ?? 0) > 0
            ? <button type="button" onClick={() => setReplaying(true)}>Replay all that the filter finds …</button>
            : null}
          <button type="button" onClick={answer.reload}>Refresh</button>
        </form>
        <Shown answer={answer}>
          {({ count, letters, read, total }) => (
            <>
              <Table
                caption="Dead letters"
                columns={columns}
                rows={letters}
                keyOf={({ offset, partition }) => `${partition}@${offset}`}
                empty={error === "" && !open ? "There are no dead letters." : "No letter matches."}
              />
              {count > letters.length
                ? (
                  <p class="muted small">
                    The newest {letters.length} of {count.toLocaleString("en")} are shown: filter by the reason.
                  </p>
                )
                : null}
              {(error !== "" || open) && read < total
                ? (
                  <p class="muted small">
                    The filter looked at the newest {read.toLocaleString("en")} of {total.toLocaleString("en")}{" "}
                    letters. A replay looks at all.
                  </p>
                )
                : null}
            </>
          )}
        </Shown>
        {replaying ?
          (
            <Change
              noun="letter"
              title="Write the letters to the inventory topic again"
              verb="Replay"
              ask={({ dry_run, reason }) =>
                api.replayLetters({ reason, dry_run, ...(error === "" ? { all: true } : { error }) })}
              onClose={() => setReplaying(false)}
              onDone={answer.reload}
            >
              <p>The preview leaves out letters that would become dead letters again or were replayed before.</p>
            </Change>
          ) :
          null}
      </section>
    </>
  )
}
