/**
 * How far the proofs search, and how much bad input they send. The bounds of the standard run find every broken variant of the protocol that the proofs list; `PROOF_BOUNDS=large npm run prove` searches as far as docs/exactly-once.md says, in some minutes more.
 */
export const large = process.env["PROOF_BOUNDS"] === "large"

/** The number for this run. */
export const bound = (bounds: { readonly standard: number; readonly large: number }): number =>
  large ? bounds.large : bounds.standard
