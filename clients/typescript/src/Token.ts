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

/** The token now. A file is read at each call, so that its replacement counts at once. Line ends after the token do not count. */
export const current = (token: Token): string => {
  if (typeof token === "string") return token
  let text: string
  try {
    text = readFileSync(token.file, "utf8").replace(/[\r\n]+$/, "")
  } catch (error) {
    throw new TokenUnreadable(token.file, `cannot be read: ${(error as Error).message}`)
  }
  // another character cannot be sent in a header, and the message of Node would show the token
  if (!/^[\x21-\x7e]+$/.test(text)) throw new TokenUnreadable(token.file, "does not have one word of ASCII")
  return text
}
