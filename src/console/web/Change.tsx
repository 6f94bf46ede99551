import type { ComponentChildren } from "preact"
import { useEffect, useState } from "preact/hooks"
import { refusalOf } from "./Answer.js"
import type { Refused } from "./Calls.js"
import { Dialog } from "./Dialog.js"
import * as Store from "./Store.js"
import { counted, Told } from "./Time.js"
import type * as Wire from "./Wire.js"

/** The last thing that the reader has done, for the line at the foot of the page. */
export const done = Store.make<string | undefined>(undefined)

export interface Asked {
  readonly reason: string
  readonly dry_run: boolean
  /** Consents that the server has asked for, each `true`. */
  readonly consents: { readonly [field: string]: true }
}

interface ChangeProps {
  readonly title: string
  /** The word on the button that does it. */
  readonly verb: string
  /** What changes: `event`, `letter`. */
  readonly noun: string
  readonly danger?: boolean
  /** Makes the change, or only its preview. */
  readonly ask: (asked: Asked) => Promise<Wire.Changed>
  /** More fields; a change of `version` asks for a new preview. */
  readonly children?: ComponentChildren
  readonly version?: string
  readonly onClose: () => void
  readonly onDone: () => void
}

const Preview = (
  { changed, noun, verb }: { readonly changed: Wire.Changed; readonly noun: string; readonly verb: string }
) => (
  <div class={`note ${changed.planned === 0 ? "warn" : "info"}`} role="status">
    <p>
      <b>Preview:</b>{" "}
      {changed.planned === 0 ? `Nothing to ${verb.toLowerCase()}.` : `This changes ${counted(changed.planned, noun)}.`}
      {changed.more ? " There are more: repeat it afterwards." : ""}
    </p>
    {changed.left_out.map(({ count, examples, reason }) => (
      <p class="small">
        Leaves out {count}: <Told text={reason} /> ({examples.join(", ")})
      </p>
    ))}
  </div>
)

/** Asks for the reason, shows what the change would do, and does it. */
export const Change = (
  { ask, children, danger = false, noun, onClose, onDone, title, verb, version = "" }: ChangeProps
) => {
  const [reason, setReason] = useState("")
  const [preview, setPreview] = useState<Wire.Changed>()
  const [error, setError] = useState<Refused>()
  const [busy, setBusy] = useState(false)
  const [consents, setConsents] = useState<Asked["consents"]>({})
  const [needed, setNeeded] = useState<{ readonly field: string; readonly message: string }>()

  useEffect(() => {
    let current = true
    setError(undefined)
    // a preview is stored nowhere, so its reason does not matter
    ask({ reason: "preview", dry_run: true, consents }).then(
      (changed) => current && setPreview(changed),
      (failure) => current && setError(refusalOf(failure))
    )
    return () => {
      current = false
    }
  }, [version])

  const act = async (event: Event) => {
    event.preventDefault()
    setBusy(true)
    setError(undefined)
    const given = needed === undefined ? consents : { ...consents, [needed.field]: true as const }
    try {
      const changed = await ask({ reason: reason.trim(), dry_run: false, consents: given })
      done.set(
        `${verb}: ${counted(changed.changed, noun)} changed` +
          `${changed.unchanged > 0 ? `, ${changed.unchanged} had changed meanwhile and were left alone` : ""}` +
          `${changed.more ? ". There are more: repeat it" : ""}.`
      )
      onDone()
      onClose()
    } catch (failure) {
      const refusal = refusalOf(failure)
      if (refusal.tag === "NeedsConsent" && refusal.field !== undefined) {
        setConsents(given)
        setNeeded({ field: refusal.field, message: refusal.message })
      } else setError(refusal)
    } finally {
      setBusy(false)
    }
  }

  return (
    <Dialog title={title} onClose={onClose}>
      <form onSubmit={act}>
        {children}
        {preview === undefined ?
          (error === undefined ? <p class="muted" role="status">Preview …</p> : null)
          : <Preview changed={preview} noun={noun} verb={verb} />}
        <label>
          Reason (kept in the log of operations)
          <input
            required
            maxLength={2_000}
            value={reason}
            autofocus
            onInput={(event) => setReason(event.currentTarget.value)}
          />
        </label>
        {needed === undefined ? null : <div class="note warn" role="alert">{needed.message}. Confirm to go on.</div>}
        {error === undefined ? null : <div class="note bad" role="alert">{error.message}</div>}
        <div class="row">
          <button type="submit" class={danger ? "danger" : "main"} disabled={busy || preview?.planned === 0}>
            {busy ? "Working …" : needed === undefined ? verb : `${verb} all the same`}
          </button>
          <button type="button" onClick={onClose}>Cancel</button>
        </div>
      </form>
    </Dialog>
  )
}
