import { useState } from "preact/hooks"
import { refusalOf } from "../Answer.js"
import { api } from "../Calls.js"
import * as Session from "../Session.js"

/** Asks for a token, and for a name when the token has none. */
export const SignInPage = () => {
  const [token, setToken] = useState("")
  const [name, setName] = useState("")
  const [needsName, setNeedsName] = useState(false)
  const [says, setSays] = useState<string>()
  const [busy, setBusy] = useState(false)
  const signIn = async (event: Event) => {
    event.preventDefault()
    setBusy(true)
    setSays(undefined)
    try {
      Session.session.set(await api.signIn({ token, ...(name.trim() === "" ? {} : { name: name.trim() }) }))
    } catch (failure) {
      const refusal = refusalOf(failure)
      if (refusal.tag === "BadRequest" && !needsName) setNeedsName(true)
      setSays(refusal.message)
    } finally {
      setBusy(false)
    }
  }
  return (
    <main>
      <div class="card signin">
        <form class="stack" onSubmit={signIn}>
          <h1>Payments</h1>
          <p class="muted">
            Sign in with a token of the operations API. <code>payments token create</code> makes one.
          </p>
          <label>
            Token
            <input
              type="password"
              required
              autocomplete="current-password"
              value={token}
              onInput={(event) => setToken(event.currentTarget.value)}
            />
          </label>
          {needsName
            ? (
              <label>
                Your name (kept with each change)
                <input
                  required
                  autofocus
                  autocomplete="username"
                  value={name}
                  onInput={(event) => setName(event.currentTarget.value)}
                />
              </label>
            )
            : null}
          {says === undefined
            ? null
            : <div class={`note ${needsName && name === "" ? "info" : "bad"}`} role="alert">{says}</div>}
          <div>
            <button type="submit" class="main" disabled={busy}>{busy ? "Signing in …" : "Sign in"}</button>
          </div>
        </form>
      </div>
    </main>
  )
}
