import { api } from "./Calls.js"
import * as Session from "./Session.js"
import * as Store from "./Store.js"
import type * as Wire from "./Wire.js"

export interface Live {
  /** `paused`: the page is hidden. */
  readonly stream: "connecting" | "live" | "lost" | "paused"
  /** When the last event came; undefined before the first. */
  readonly at: Date | undefined
  readonly saga: Wire.SagaWithHistory | undefined
}

/** The state of the flow, by one event stream for all views of the page. */
export const live = Store.make<Live>({ stream: "connecting", at: undefined, saga: undefined })

const quarter = 15 * 60_000
const change = (part: Partial<Live>) => live.set({ ...live.get(), ...part })

const append = (history: ReadonlyArray<Wire.Sample>, now: Wire.Sample) => {
  const since = Date.parse(now.at) - quarter
  return [...history.filter(({ at }) => at < now.at && Date.parse(at) >= since), now]
}

let source: EventSource | undefined
let silence: ReturnType<typeof setTimeout> | undefined
let again: ReturnType<typeof setTimeout> | undefined
let failures = 0

const close = () => {
  clearTimeout(silence)
  clearTimeout(again)
  source?.close()
  source = undefined
}

const loadHistory = () =>
  api.saga().then(
    (saga) => change({ saga, at: new Date() }),
    // an ended session shows the sign-in page; otherwise the views say that the stream is lost
    () => undefined
  )

const lose = () => {
  close()
  change({ stream: "lost" })
  failures++
  // a server that refuses one more stream may still answer
  void loadHistory()
  again = setTimeout(open, Math.min(10_000, 500 * 2 ** failures))
}

/** A stream that says nothing for three samples is as good as broken. */
const expectMore = (seconds: number) => {
  clearTimeout(silence)
  silence = setTimeout(lose, seconds * 3_000)
}

const open = () => {
  close()
  if (document.hidden || Session.session.get()?.signed_in !== true) return
  source = new EventSource("api/saga/live")
  expectMore(5)
  source.addEventListener("open", () => void loadHistory())
  source.addEventListener("saga", (event) => {
    failures = 0
    const saga: Wire.Saga = JSON.parse((event as MessageEvent<string>).data)
    const history = append(live.get().saga?.history ?? [], saga.now)
    change({ stream: "live", at: new Date(), saga: { ...saga, history } })
    expectMore(saga.every_seconds)
  })
  source.addEventListener("end", (event) => {
    const { reason }: { readonly reason: string } = JSON.parse((event as MessageEvent<string>).data)
    if (reason === "signed out") {
      close()
      Session.lost()
    } else if (reason === "stop") lose()
  })
  source.addEventListener("error", lose)
}

/** Follows the flow while the page is seen and the reader is signed in. */
export const start = () => {
  open()
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      close()
      change({ stream: "paused" })
    } else {
      change({ stream: "connecting" })
      open()
    }
  })
}

/** Begins again with the new session. */
export const restart = () => {
  failures = 0
  change({ stream: "connecting", saga: undefined })
  open()
}
