import type { ComponentChildren } from "preact"
import { useEffect, useRef, useState } from "preact/hooks"
import { Refused } from "./Calls.js"

export interface Answer<A> {
  /** The last good answer, also while the next one is under way. */
  readonly value: A | undefined
  readonly error: Refused | undefined
  readonly loading: boolean
  readonly reload: () => void
}

/** A failure in words for the reader. */
export const refusalOf = (error: unknown) =>
  error instanceof Refused ? error : new Refused(`This page has a defect: ${String(error)}`, "Defect")

/** Hook: the answer of a call, asked again when `key` changes. A later question ends an earlier one. */
export const useAnswer = <A extends unknown>(key: string, ask: (signal: AbortSignal) => Promise<A>): Answer<A> => {
  const [state, setState] = useState<
    { key: string; value: A | undefined; error: Refused | undefined; loading: boolean }
  >({
    key,
    value: undefined,
    error: undefined,
    loading: true
  })
  const [round, setRound] = useState(0)
  const asked = useRef("")
  useEffect(() => {
    const abort = new AbortController()
    const sameKey = asked.current === key
    asked.current = key
    setState((now) => ({ ...now, key, value: sameKey ? now.value : undefined, error: undefined, loading: true }))
    ask(abort.signal).then(
      (value) => setState({ key, value, error: undefined, loading: false }),
      (error) => {
        if (!abort.signal.aborted) setState((now) => ({ ...now, error: refusalOf(error), loading: false }))
      }
    )
    return () => abort.abort()
  }, [key, round])
  return { ...state, value: state.key === key ? state.value : undefined, reload: () => setRound((now) => now + 1) }
}

/** Says what failed, and offers to try again. */
export const Problem = ({ error, retry }: { readonly error: Refused; readonly retry?: (() => void) | undefined }) => (
  <div class="note bad" role="alert">
    <p>{error.message}</p>
    {retry === undefined ? null : (
      <p>
        <button type="button" onClick={retry}>Try again</button>
      </p>
    )}
  </div>
)

interface ShownProps<A> {
  readonly answer: Answer<A>
  readonly children: (value: A) => ComponentChildren
}

/** The answer when it is there; before that, that it is under way, or why it failed. */
export const Shown = <A extends unknown>({ answer, children }: ShownProps<A>) => (
  <>
    {answer.error === undefined ? null : <Problem error={answer.error} retry={answer.reload} />}
    {answer.value !== undefined
      ? children(answer.value)
      : answer.error === undefined
      ? <p class="muted" role="status">Loading …</p>
      : null}
  </>
)
