import * as Session from "./Session.js"
import type * as Wire from "./Wire.js"

/** An answer that is not the wanted one, in words for the reader. */
export class Refused extends Error {
  constructor(
    message: string,
    /** The `_tag` of the answer; `Away` when there was none. */
    readonly tag: string,
    /** The field of the request that gives the consent. */
    readonly field?: string
  ) {
    super(message)
  }
}

type Query = { readonly [name: string]: string | number | boolean | undefined }

/** The address of a call, relative to the page: a proxy may serve the console below another path. */
export const address = (path: string, query: Query = {}) => {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== "" && value !== false)
  return given.length === 0
    ? path
    : `${path}?${new URLSearchParams(given.map(([name, value]) => [name, String(value)]))}`
}

const refusalOf = (status: number, body: { readonly [name: string]: unknown }) => {
  const tag = typeof body["_tag"] === "string" ? body["_tag"] : String(status)
  const said = typeof body["message"] === "string" ? body["message"] : `The server answered ${status}.`
  const message = status === 429 && typeof body["retry_after_seconds"] === "number"
    ? `${said} Try again in ${body["retry_after_seconds"]} s.`
    : status === 401 && body["message"] === undefined
    ? "The server does not know this token."
    : said
  return new Refused(message, tag, typeof body["field"] === "string" ? body["field"] : undefined)
}

const call = async <A>(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<A> => {
  let response: Response
  let text: string
  try {
    response = await fetch(path, {
      method,
      ...(signal === undefined ? {} : { signal }),
      ...(method === "GET" ? {} : { headers: { "content-type": "application/json", "x-payments-console": "1" } }),
      ...(body === undefined ? {} : { body: JSON.stringify(body) })
    })
    text = await response.text()
  } catch (error) {
    if (signal?.aborted === true) throw error
    throw new Refused("The server does not answer. Is it running, and does the network reach it? Try again.", "Away")
  }
  let answer: { readonly [name: string]: unknown }
  try {
    answer = JSON.parse(text)
  } catch {
    answer = {}
  }
  if (response.ok) return answer as A
  if (response.status === 401 && path !== "api/session") Session.lost()
  throw refusalOf(response.status, answer)
}

const get = <A>(path: string, query?: Query, signal?: AbortSignal) =>
  call<A>("GET", address(path, query), undefined, signal)
const post = <A>(path: string, body: unknown) => call<A>("POST", path, body)

/** The calls of the operations API. */
export const api = {
  session: () => get<Wire.Session>("api/session"),
  signIn: (body: Wire.SignIn) => post<Wire.Session>("api/session", body),
  signOut: () => call<Wire.Session>("DELETE", "api/session"),
  saga: () => get<Wire.SagaWithHistory>("api/saga"),
  orders: (query: Query, signal?: AbortSignal) => get<Wire.Orders>("api/orders", query, signal),
  story: (orderId: string, signal?: AbortSignal) => get<Wire.Story>(`api/orders/${orderId}`, {}, signal),
  settle: (orderId: string, verb: "pay" | "refuse", body: Wire.Settle) =>
    post<Wire.Settled>(`api/orders/${orderId}/${verb}`, body),
  events: (query: Query, signal?: AbortSignal) => get<Wire.Events>("api/outbox/events", query, signal),
  blocked: (signal?: AbortSignal) => get<Wire.Blocked>("api/outbox/blocked", { limit: 100 }, signal),
  repair: (verb: "retry" | "skip", body: Wire.Repair) => post<Wire.Changed>(`api/outbox/${verb}`, body),
  replay: (body: Wire.Replay) => post<Wire.Changed>("api/outbox/replay", body),
  operations: (query: Query, signal?: AbortSignal) => get<Wire.Log>("api/operations", query, signal),
  letters: (query: Query, signal?: AbortSignal) => get<Wire.Letters>("api/dead-letters", query, signal),
  letter: (partition: string, offset: string, signal?: AbortSignal) =>
    get<Wire.WholeLetter>(`api/dead-letters/${partition}/${offset}`, {}, signal),
  replayLetters: (body: Wire.LetterReplay) => post<Wire.Changed>("api/dead-letters/replay", body),
  topics: (signal?: AbortSignal) => get<Wire.Topics>("api/topics", {}, signal),
  records: (topic: string, query: Query, signal?: AbortSignal) =>
    get<Wire.Records>(`api/topics/${topic}/records`, query, signal),
  write: (body: Wire.Write) => post<Wire.Written>("api/topics/inventory/records", body),
  doctor: (signal?: AbortSignal) => get<Wire.Findings>("api/doctor", {}, signal)
} as const
