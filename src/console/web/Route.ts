import * as Store from "./Store.js"

/** A page and its query: `#/orders/111?since=…`. */
export interface Route {
  readonly parts: ReadonlyArray<string>
  readonly query: URLSearchParams
}

const read = (): Route => {
  const [path = "", query = ""] = location.hash.replace(/^#\/?/, "").split("?", 2)
  return {
    parts: path.split("/").filter((part) => part !== "").map(decodeURIComponent),
    query: new URLSearchParams(query)
  }
}

export const route = Store.make(read())

addEventListener("hashchange", () => route.set(read()))

/** The address of a page. */
export const to = (parts: ReadonlyArray<string>, query: { readonly [name: string]: string | undefined } = {}) => {
  const given = Object.entries(query).flatMap(([name, value]) =>
    value === undefined || value === "" ? [] : [[name, value]]
  )
  const path = `#/${parts.map(encodeURIComponent).join("/")}`
  return given.length === 0 ? path : `${path}?${new URLSearchParams(given)}`
}

/** Goes to a page. */
export const go = (address: string) => {
  location.hash = address
}

/** Changes the query of the page, without a new entry in the history. */
export const filter = (query: { readonly [name: string]: string | undefined }) => {
  history.replaceState(null, "", to(route.get().parts, query))
  route.set(read())
}
