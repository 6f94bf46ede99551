import { readFileSync } from "node:fs"

/** The client would send its token where others can read it. */
export class TokenUnprotected extends Error {
  override readonly name = "TokenUnprotected"

  constructor(readonly address: string) {
    super(`the token is not sent to ${address} without TLS: set the option tls`)
  }
}

/** The file of the token cannot be read, or is empty. A later call may work. */
export class TokenUnreadable extends Error {
  override readonly name = "TokenUnreadable"

  constructor(readonly file: string, problem: string) {
    super(`the token file ${file} ${problem}`)
  }
}

/** A token, or a file that has it. */
export type Token = string | { readonly file: string }

/** A header can carry it. The message of grpc-js about another token would show the token. */
const isSendable = (text: string) => /^[\x21-\x7e]+$/.test(text)

/** Throws `TypeError` for a token that no header can carry. A file is looked at when it is read. */
export const check = (token: Token) => {
  if (typeof token === "string" && !isSendable(token)) throw new TypeError("the token is not one word of ASCII")
}

/** The token now. A file is read at each call, so that its replacement counts at once. Line ends after the token do not count. */
export const current = (token: Token): string => {
  if (typeof token === "string") return token
  let text: string
  try {
    text = readFileSync(token.file, "utf8").replace(/[\r\n]+$/, "")
  } catch (error) {
    throw new TokenUnreadable(token.file, `cannot be read: ${(error as Error).message}`)
  }
  if (!isSendable(text)) throw new TokenUnreadable(token.file, "does not have one word of ASCII")
  return text
}
