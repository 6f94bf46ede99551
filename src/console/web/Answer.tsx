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

/** Failures that pass by themselves: the page asks again. */
const passing = new Set(["Unavailable", "Away"])
const askAgainAfter = 5_000

/**
 * Hook: the answer of a call, asked again when `key` changes, and while a server is away. A later question ends an earlier one.
 */
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
    setState((now) => ({
      ...now,
      key,
      value: sameKey ? now.value : undefined,
      error: sameKey ? now.error : undefined,
      loading: true
    }))
    ask(abort.signal).then(
      (value) => setState({ key, value, error: undefined, loading: false }),
      (error) => {
        if (!abort.signal.aborted) setState((now) => ({ ...now, error: refusalOf(error), loading: false }))
      }
    )
    return () => abort.abort()
  }, [key, round])
  useEffect(() => {
    if (state.loading || state.error === undefined || !passing.has(state.error.tag)) return
    const timer = setInterval(() => document.hidden ? undefined : setRound((now) => now + 1), askAgainAfter)
    return () => clearInterval(timer)
  }, [state.loading, state.error])
  return { ...state, value: state.key === key ? state.value : undefined, reload: () => setRound((now) => now + 1) }
}

interface ProblemProps {
  readonly error: Refused
  readonly retry?: (() => void) | undefined
  /** The next try is under way. */
  readonly busy?: boolean
}

/** Says what failed, and offers to try again. */
export const Problem = ({ busy = false, error, retry }: ProblemProps) => (
  <div class="note bad" role="alert">
    <p>{error.message}</p>
    {retry === undefined ? null : (
      <p>
        <button type="button" onClick={retry} disabled={busy}>{busy ? "Trying …" : "Try again"}</button>
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
    {answer.error === undefined ? null : <Problem error={answer.error} retry={answer.reload} busy={answer.loading} />}
    {answer.value !== undefined
      ? children(answer.value)
      : answer.error === undefined
      ? <p class="muted" role="status">Loading …</p>
      : null}
  </>
)
