import type { Scope } from "effect"
import { Effect } from "effect"
import type { TokenFileOptions } from "../../auth/TokenFile.js"
import * as TokenFile from "../../auth/TokenFile.js"
import type { FileUnusable } from "../../runtime/FileUnusable.js"
import type { Authenticator } from "./Authenticator.js"
import { badCredential } from "./Authenticator.js"
import * as Bearer from "./Bearer.js"

/** Takes callers by the tokens of a file, which is followed for the life of the scope. */
export const make = Effect.fnUntraced(function*(options: Omit<TokenFileOptions, "changed">) {
  const clock = yield* Effect.clock
  const { find } = yield* TokenFile.make({ ...options, changed: () => bearer.forget() })
  const bearer = Bearer.make(clock, (token) =>
    Effect.suspend(() => {
      const caller = find(token)
      return caller === undefined
        ? badCredential("the token is not known: it is wrong, or was revoked")
        : Effect.succeed({ caller, until: Infinity })
    }))
  return bearer.authenticator
}) satisfies (options: TokenFileOptions) => Effect.Effect<Authenticator, FileUnusable, Scope.Scope>
