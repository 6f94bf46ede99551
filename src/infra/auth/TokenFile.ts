import { Effect, Either } from "effect"
import { hash, randomBytes, timingSafeEqual } from "node:crypto"
import { readFileSync } from "node:fs"
import { FileUnusable } from "../runtime/FileUnusable.js"
import * as Followed from "../runtime/Followed.js"
import type { Caller } from "./Caller.js"
import { isName } from "./Caller.js"

/** SHA-256 of a token, in hexadecimal. */
export const hashOf = (token: string) => hash("sha256", token)

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
    return Either.left(`has the scope ${JSON.stringify(unknown)}: the scopes are ${scopes.join(", ")}`)
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
  return { token, line: `${name} ${scopes.join(",")} ${hashOf(token)}` }
}

export interface TokenFileOptions {
  readonly file: string
  /** Variable that names the file, for messages. */
  readonly variable: string
  /** All scopes. */
  readonly scopes: ReadonlyArray<string>
  /** Called when the file was replaced. */
  readonly changed?: () => void
  /** Pause between two looks for a changed file: a revoked token is refused after it. Default: 1 second. */
  readonly every?: Parameters<typeof Effect.sleep>[0] | undefined
}

/**
 * Finds callers by the tokens of a file, which is followed for the life of the scope. Fails with `FileUnusable` when the file
 * cannot be used now; a file that becomes unusable later changes nothing.
 */
export const make = Effect.fnUntraced(
  function*({ changed = () => {}, every = "1 second", file, scopes, variable }: TokenFileOptions) {
    const unusable = (problem: string) => new FileUnusable({ variable, problem })
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
    yield* Effect.forkScoped(Followed.follow({
      what: `the list of tokens in ${variable}`,
      read,
      same: (one, other) => one.content === other.content,
      first,
      changed: (content) => {
        entries = content.entries
        changed()
      },
      every
    }))
    /** The caller with this token. Compares with every token, so that the time tells nothing of a hash. */
    const find = (token: string): Caller | undefined => {
      const hash = Buffer.from(hashOf(token), "hex")
      let found: Caller | undefined
      for (const entry of entries) if (timingSafeEqual(entry.hash, hash)) found = entry.caller
      return found
    }
    return { find } as const
  }
)
