import { Shown, useAnswer } from "../Answer.js"
import { api } from "../Calls.js"
import { Time } from "../Time.js"
import type * as Wire from "../Wire.js"

const kinds = { finding: "bad", not_checked: "warn", ok: "ok" } as const
const names = { finding: "finding", not_checked: "not checked", ok: "ok" } as const

const Result = ({ result }: { readonly result: Wire.Findings["results"][number] }) => (
  <div class={`note ${kinds[result.state]}`}>
    <p>
      <span class={`pill ${kinds[result.state]}`}>{names[result.state]}</span> <b>{result.found}</b>
    </p>
    {result.consequence === null ? null : <p>{result.consequence}</p>}
    {result.remedy === null ? null : (
      <p>
        <span class="muted">What to do:</span> {result.remedy}
      </p>
    )}
    <p class="small muted">
      {result.place} · <code>{result.check}</code>
    </p>
  </div>
)

const Findings = ({ answer }: { readonly answer: Wire.Findings }) => {
  const of = (state: keyof typeof kinds) => answer.results.filter((result) => result.state === state)
  return (
    <div class="stack">
      <p>
        Checked at <Time at={answer.at} />: <b>{answer.findings} {answer.findings === 1 ? "finding" : "findings"}</b>,
        {" "}
        {answer.ok} in order, {answer.not_checked} not checked.
      </p>
      {answer.clean ? <div class="note ok">Servers and settings agree.</div> : null}
      {of("finding").map((result) => <Result key={result.check + result.found} result={result} />)}
      {of("not_checked").map((result) => <Result key={result.check + result.found} result={result} />)}
      <details>
        <summary>{answer.ok} checks in order</summary>
        <ul>
          {of("ok").map(({ check, found }) => (
            <li key={check + found}>
              <code>{check}</code>: {found}
            </li>
          ))}
        </ul>
      </details>
    </div>
  )
}

/** Checks servers and settings against each other. */
export const DoctorPage = () => {
  const answer = useAnswer("doctor", (signal) => api.doctor(signal))
  return (
    <>
      <div class="head">
        <h1 tabIndex={-1}>Doctor</h1>
        <span class="muted">checks servers and settings against each other</span>
        <span class="grow" />
        <button type="button" onClick={answer.reload} disabled={answer.loading}>
          {answer.loading ? "Checking …" : "Check again"}
        </button>
      </div>
      <section class="card" aria-label="Findings">
        <Shown answer={answer}>{(value) => <Findings answer={value} />}</Shown>
      </section>
    </>
  )
}
