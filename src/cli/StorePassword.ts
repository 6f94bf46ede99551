import { Either, Option, Redacted } from "effect"
import * as Secret from "../infra/runtime/Secret.js"
import type { Parse } from "../infra/runtime/Setting.js"

export interface StorePassword {
  readonly url: Redacted.Redacted
  /** The file with the URL, and the variable of the URL. */
  readonly urlFile: Option.Option<string>
  readonly urlVariable: string
  readonly parseUrl: Parse<Redacted.Redacted>
  /** The password in a URL, if it has one. */
  readonly inUrl: (url: Redacted.Redacted) => string | undefined
  /** The other source of the password. */
  readonly source: Secret.SecretSource
}

/** The password of each new connection; undefined when the URL of the environment has it, or when the server needs none. */
export const of = (
  { inUrl, parseUrl, source, url, urlFile, urlVariable }: StorePassword
): Secret.Secret | undefined => {
  if (inUrl(url) === undefined) return Option.getOrUndefined(Secret.of(source))
  const parse: Parse<Redacted.Redacted> = (text) =>
    Either.flatMap(
      parseUrl(text.trim()),
      (url) => Either.map(Either.fromNullable(inUrl(url), () => "has no password"), Redacted.make)
    )
  return Option.getOrUndefined(Secret.of({ variable: urlVariable, value: Option.none(), file: urlFile, parse }))
}
