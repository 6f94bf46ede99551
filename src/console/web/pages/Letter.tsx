import { useState } from "preact/hooks"
import { Shown, useAnswer } from "../Answer.js"
import { BytesView } from "../Bytes.js"
import { api } from "../Calls.js"
import { Change } from "../Change.js"
import { OrderLink } from "../RecordView.js"
import * as Route from "../Route.js"
import * as Session from "../Session.js"
import { counted, Time } from "../Time.js"
import type * as Wire from "../Wire.js"

const Repair = ({ letter, reload }: { readonly letter: Wire.WholeLetter; readonly reload: () => void }) => {
  const original = letter.value?.text ?? ""
  const [edits, setEdits] = useState(false)
  const [value, setValue] = useState(original)
  const [again, setAgain] = useState(letter.replays > 0)
  const [anyway, setAnyway] = useState(false)
  const [asking, setAsking] = useState(false)
  const place = `${letter.partition}@${letter.offset}`
  return (
    <section class="card stack">
      <h2>Replay</h2>
      <p class="muted">
        Writes the record to the inventory topic again, as it was or corrected. The letter stays here.
      </p>
      <label class="check">
        <input type="checkbox" checked={edits} onChange={(event) => setEdits(event.currentTarget.checked)} />correct the
        value
      </label>
      {edits ?
        (
          <label>
            Corrected value
            <textarea value={value} spellcheck={false} onInput={(event) => setValue(event.currentTarget.value)} />
          </label>
        ) :
        null}
      <div>
        <button type="button" class="main" onClick={() => setAsking(true)}>Replay …</button>
      </div>
      {asking ?
        (
          <Change
            noun="letter"
            title={`Replay letter ${place}`}
            verb="Replay"
            version={`${again} ${anyway}`}
            ask={({ dry_run, reason }) =>
              api.replayLetters({ reason, dry_run, places: [place], again, anyway, ...(edits ? { value } : {}) })}
            onClose={() => setAsking(false)}
            onDone={reload}
          >
            <div class="row">
              <label class="check">
                <input
                  type="checkbox"
                  checked={again}
                  onChange={(event) => setAgain(event.currentTarget.checked)}
                />also if it was replayed before
              </label>
              <label class="check">
                <input
                  type="checkbox"
                  checked={anyway}
                  onChange={(event) => setAnyway(event.currentTarget.checked)}
                />also if it fails again
              </label>
            </div>
          </Change>
        ) :
        null}
    </section>
  )
}

const Whole = ({ letter, reload }: { readonly letter: Wire.WholeLetter; readonly reload: () => void }) => {
  const may = Session.useMay("operations:change")
  return (
    <>
      <div class={`note ${letter.replays === 0 ? "bad" : "info"}`}>
        <p>
          <b>{letter.reason}</b>
        </p>
        {letter.replays === 0 ? null : <p>The letter was replayed. It stays here until its topic drops it.</p>}
        <p>
          <OrderLink bytes={letter.value} />
        </p>
      </div>
      <section class="card stack">
        <h2>The record</h2>
        <dl class="facts">
          <dt>original</dt>
          <dd class="mono">{letter.original}</dd>
          <dt>written</dt>
          <dd>
            <Time at={letter.at} millis />
          </dd>
          {letter.cut.length === 0 ? null : [<dt key="cut">cut</dt>, <dd key="parts">{letter.cut.join(", ")}</dd>]}
          {letter.replays === 0 ? null : [
            <dt key="replayed">replayed</dt>,
            <dd key="times">
              {counted(letter.replays, "time")}, last <Time at={letter.replayed_at} /> by {letter.replayed_by}
            </dd>
          ]}
        </dl>
        <BytesView name="value" bytes={letter.value} />
        <BytesView name="key" bytes={letter.key} />
        <h3>Headers</h3>
        <dl class="facts">
          {Object.entries(letter.headers).map((
            [name, value]
          ) => [
            <dt class="mono" key={`${name} name`}>{name}</dt>,
            <dd class="mono" key={`${name} value`}>{value}</dd>
          ])}
        </dl>
      </section>
      {may ? <Repair letter={letter} reload={reload} /> : null}
    </>
  )
}

/** A dead letter with its contents, and its replay. */
export const LetterPage = ({ offset, partition }: { readonly partition: string; readonly offset: string }) => {
  const answer = useAnswer(`${partition}@${offset}`, (signal) => api.letter(partition, offset, signal))
  return (
    <>
      <p class="small">
        <a href={Route.to(["dead-letters"])}>Dead letters</a>
      </p>
      <h1 tabIndex={-1}>Dead letter {partition}@{offset}</h1>
      <Shown answer={answer}>{(letter) => <Whole letter={letter} reload={answer.reload} />}</Shown>
    </>
  )
}
