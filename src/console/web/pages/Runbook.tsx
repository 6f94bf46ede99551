import { useEffect, useRef, useState } from "preact/hooks"

/** The runbook of this version, at one of its sections. It is loaded when it is opened. */
export const RunbookPage = ({ section }: { readonly section: string | undefined }) => {
  const [html, setHtml] = useState<string>()
  const text = useRef<HTMLDivElement>(null)
  useEffect(() => {
    void import("../../../../docs/runbook.md").then((loaded) => setHtml(loaded.default))
  }, [])
  useEffect(() => {
    const target = section === undefined ? null : document.getElementById(section)
    target?.classList.add("target")
    target?.scrollIntoView()
    return () => target?.classList.remove("target")
  }, [html, section])
  return html === undefined
    ? <>
      <h1 tabIndex={-1}>Runbook</h1>
      <p class="muted">Loading …</p>
    </>
    // the build makes this HTML from a document of this repository
    : <div class="card prose" ref={text} dangerouslySetInnerHTML={{ __html: html }} />
}
