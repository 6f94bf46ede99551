import type { ComponentChildren } from "preact"
import { useId, useLayoutEffect, useRef } from "preact/hooks"

interface DialogProps {
  readonly title: string
  readonly onClose: () => void
  readonly children: ComponentChildren
}

/** A modal dialog: the browser keeps the focus in it, and Escape closes it. */
export const Dialog = ({ children, onClose, title }: DialogProps) => {
  const id = useId()
  const element = useRef<HTMLDialogElement>(null)
  // a passive effect would take the focus, and give it back, a frame after the key was pressed
  useLayoutEffect(() => {
    const before = document.activeElement
    const dialog = element.current!
    dialog.showModal()
    return () => {
      // the rest of the page takes no focus while the dialog is open
      dialog.close()
      if (before instanceof HTMLElement) before.focus()
    }
  }, [])
  const cancel = (event: Event) => {
    // the browser would say that it closed the dialog after the next key was pressed
    event.preventDefault()
    onClose()
  }
  const closed = () => {
    if (element.current !== null) onClose()
  }
  return (
    <dialog ref={element} aria-labelledby={id} onCancel={cancel} onClose={closed}>
      <div class="stack">
        <h2 id={id}>{title}</h2>
        {children}
      </div>
    </dialog>
  )
}
