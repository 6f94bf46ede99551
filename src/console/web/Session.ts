import * as Store from "./Store.js"
import type * as Wire from "./Wire.js"

/** What the reader may do; undefined before the server has said it. */
export const session = Store.make<Wire.Session | undefined>(undefined)

/** Forgets the session: the server does not know it any more. */
export const lost = () => {
  const now = session.get()
  if (now?.signed_in === true) session.set({ ...now, signed_in: false, name: null, scopes: [] })
}

export type Scope = Wire.Session["scopes"][number]

/** Hook: whether the reader may do this. */
export const useMay = (scope: Scope) => session.use()?.scopes.includes(scope) === true
