import { useState } from "preact/hooks"
import type { Answer } from "./Answer.js"
import { Problem, refusalOf, useAnswer } from "./Answer.js"
import type { Refused } from "./Calls.js"

/** One page of a list. */
export interface Page<A> {
  readonly items: ReadonlyArray<A>
  readonly next: string | null
  readonly examined?: number
}

export interface Pages<A> {
  /** The first page. */
  readonly answer: Answer<unknown>
  readonly items: ReadonlyArray<A>
  readonly examined: number
  readonly next: string | null
  readonly busy: boolean
  readonly error: Refused | undefined
  readonly more: () => void
  readonly reload: () => void
}

/** Hook: a list page by page. A page that is asked for follows those before it. */
export const usePages = <A extends unknown>(
  key: string,
  ask: (after: string | undefined, signal?: AbortSignal) => Promise<Page<A>>
): Pages<A> => {
  const [rest, setRest] = useState<{ readonly of: unknown; readonly pages: ReadonlyArray<Page<A>> }>({
    of: undefined,
    pages: []
  })
  const [busy, setBusy] = useState(false)
  const [error, setError] = useState<Refused>()
  const answer = useAnswer(key, (signal) => ask(undefined, signal))
  const pages = answer.value === undefined ? [] : [answer.value, ...rest.of === answer.value ? rest.pages : []]
  const next = pages.at(-1)?.next ?? null
  const more = () => {
    if (next === null || busy) return
    setBusy(true)
    setError(undefined)
    ask(next).then(
      (page) => setRest({ of: answer.value, pages: [...pages.slice(1), page] }),
      (failure) => setError(refusalOf(failure))
    ).finally(() => setBusy(false))
  }
  return {
    answer,
    items: pages.flatMap(({ items }) => items),
    examined: pages.reduce((sum, page) => sum + (page.examined ?? 0), 0),
    next,
    busy,
    error,
    more,
    reload: answer.reload
  }
}

/** The button that asks for the next page. */
export const More = <A extends unknown>({ pages, says }: { readonly pages: Pages<A>; readonly says?: string }) => (
  <>
    {pages.error === undefined ? null : <Problem error={pages.error} retry={pages.more} />}
    {pages.next === null ? null : (
      <p class="row">
        <button type="button" onClick={pages.more} disabled={pages.busy}>
          {pages.busy ? "Loading …" : "Show more"}
        </button>
        <span class="muted small">
          {pages.items.length.toLocaleString("en")} shown{says === undefined ? "" : `, ${says}`}
        </span>
      </p>
    )}
  </>
)
