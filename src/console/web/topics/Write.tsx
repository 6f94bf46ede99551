import { useEffect, useState } from "preact/hooks"
import { refusalOf } from "../Answer.js"
import type { Refused } from "../Calls.js"
import { api } from "../Calls.js"
import { done } from "../Change.js"
import { Dialog } from "../Dialog.js"
import * as Example from "../tour/Example.js"

/** Writes an inventory record, as the service that reserves stock does: on the local stack. */
export const Write = ({ onClose, onDone }: { readonly onClose: () => void; readonly onDone: () => void }) => {
  const [value, setValue] = useState<string>()
  const [reason, setReason] = useState("trying it out")
  const [error, setError] = useState<Refused>()
  const [busy, setBusy] = useState(false)
  useEffect(() => {
    void Example.load().then(setValue)
  }, [])
  const write = async (event: Event) => {
    event.preventDefault()
    setBusy(true)
    setError(undefined)
    try {
      const { offset, partition, topic } = await api.write({ reason, value: value ?? "" })
      done.set(`Written to ${topic}/${partition}@${offset}.`)
      onDone()
      onClose()
    } catch (failure) {
      setError(refusalOf(failure))
    } finally {
      setBusy(false)
    }
  }
  return (
    <Dialog title="Write an inventory record" onClose={onClose}>
      <form onSubmit={write}>
        <p>
          It says that stock was reserved for an order: the consumer creates the payment of that order. The same record
          again is a repeat, which changes nothing.
        </p>
        <label>
          Value
          <textarea
            required
            spellcheck={false}
            value={value ?? ""}
            onInput={(event) => setValue(event.currentTarget.value)}
          />
        </label>
        <div>
          <button type="button" onClick={() => setValue(Example.fresh(value ?? ""))}>Another order, new key</button>
        </div>
        <label>
          Reason (kept in the log of operations)<input
            required
            value={reason}
            onInput={(event) => setReason(event.currentTarget.value)}
          />
        </label>
        {error === undefined ? null : <div class="note bad" role="alert">{error.message}</div>}
        <div class="row">
          <button type="submit" class="main" disabled={busy || value === undefined}>
            {busy ? "Writing …" : "Write"}
          </button>
          <button type="button" onClick={onClose}>Cancel</button>
        </div>
      </form>
    </Dialog>
  )
}
