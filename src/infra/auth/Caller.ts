/** Who makes a call or a request, as a credential says that was verified. */
export interface Caller {
  /** Stored with what the caller changes: see `isName`. */
  readonly name: string
  readonly scopes: ReadonlySet<string>
}

/** True for the name of a caller: 1 to 200 visible characters and inner spaces, in one line. */
export const isName = (name: string) => /^(?! )[^\p{C}\p{Zl}\p{Zp}]{1,200}(?<! )$/u.test(name)
