import type { Scope } from "effect"
import { Effect, Either, Schema } from "effect"
import { randomBytes, timingSafeEqual } from "node:crypto"
import { readFileSync } from "node:fs"
import * as Followed from "../../runtime/Followed.js"
import * as Bearer from "./Bearer.js"
import type { Authenticator, Caller } from "./Caller.js"
import { badCredential, isName } from "./Caller.js"

/** The file of tokens cannot be read, or a line of it is wrong. */
export class TokensUnusable extends Schema.TaggedError<TokensUnusable>()("TokensUnusable", {
  variable: Schema.String,
  problem: Schema.String
}) {
  override get message() {
    return `${this.variable} ${this.problem}`
  }
}

interface Entry {
  readonly hash: Buffer
  readonly caller: Caller
}

/** Parses a line `name scopes sha256-hex`; scopes are joined by commas. */
const entryOf = (line: string, scopes: ReadonlyArray<string>): Either.Either<Entry, string> => {
  const [name = "", asked = "", hash = "", ...rest] = line.split(/\s+/)
  const unknown = asked.split(",").find((scope) => !scopes.includes(scope))
  if (!isName(name) || !/^[0-9a-f]{64}$/i.test(hash) || rest.length > 0) {
    return Either.left("is not `name scopes sha256`: payments token create makes one")
  }
  if (unknown !== undefined) {
    return Either.left(`has the scope ${JSON.stringify(unknown)}: the scopes are ${scopes.join(" and ")}`)
  }
  return Either.right({ hash: Buffer.from(hash, "hex"), caller: { name, scopes: new Set(asked.split(",")) } })
}

/** Parses the content of a file of tokens. Empty lines and those that begin with `#` are comments. */
const parse = (content: string, scopes: ReadonlyArray<string>): Either.Either<ReadonlyArray<Entry>, string> => {
  const entries: Array<Entry> = []
  for (const [i, line] of content.split("\n").map((line) => line.trim()).entries()) {
    if (line === "" || line.startsWith("#")) continue
    const entry = entryOf(line, scopes)
    // the line itself may hold a token by mistake
    if (Either.isLeft(entry)) return Either.left(`, whose line ${i + 1} ${entry.left}`)
    entries.push(entry.right)
  }
  return Either.right(entries)
}

/** A new token of 256 random bits, with the line of the file that lets it in. The file has its hash only. */
export const create = (name: string, scopes: ReadonlyArray<string>) => {
  const token = `pay_${randomBytes(32).toString("base64url")}`
  return { token, line: `${name} ${scopes.join(",")} ${Bearer.hashOf(token)}` }
}

export interface TokensOptions {
  readonly file: string
  /** Variable that names the file, for messages. */
  readonly variable: string
  /** All scopes. */
  readonly scopes: ReadonlyArray<string>
  /** Pause between two looks for a changed file: a revoked token is refused after it. Default: 1 second. */
  readonly every?: Parameters<typeof Effect.sleep>[0] | undefined
}

/** Takes callers by the tokens of a file, which is followed for the life of the scope. */
export const make = Effect.fnUntraced(function*({ every = "1 second", file, scopes, variable }: TokensOptions) {
  const unusable = (problem: string) => new TokensUnusable({ variable, problem })
  const read = Effect.suspend(() =>
    Either.flatMap(
      Either.try({
        try: () => readFileSync(file, "utf8"),
        catch: (cause) => unusable(`names a file that cannot be read: ${(cause as Error).message}`)
      }),
      (content) =>
        Either.mapBoth(parse(content, scopes), {
          onLeft: (problem) => unusable(`names ${file}${problem}`),
          onRight: (entries) => ({ content, entries })
        })
    )
  )
  const first = yield* read
  let { entries } = first
  /** Compares with every token, so that the time tells nothing of a hash. */
  const find = (token: string) => {
    const hash = Buffer.from(Bearer.hashOf(token), "hex")
    let found: Caller | undefined
    for (const entry of entries) if (timingSafeEqual(entry.hash, hash)) found = entry.caller
    return found
  }
  const bearer = Bearer.make(yield* Effect.clock, (token) =>
    Effect.suspend(() => {
      const caller = find(token)
      return caller === undefined
        ? badCredential("the token is not known: it is wrong, or was revoked")
        : Effect.succeed({ caller, until: Infinity })
    }))
  yield* Effect.forkScoped(Followed.follow({
    what: `the list of tokens in ${variable}`,
    read,
    same: (one, other) => one.content === other.content,
    first,
    changed: (content) => {
      entries = content.entries
      bearer.forget()
    },
    every
  }))
  return bearer.authenticator
}) satisfies (options: TokensOptions) => Effect.Effect<Authenticator, TokensUnusable, Scope.Scope>
