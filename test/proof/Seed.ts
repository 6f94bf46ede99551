/**
 * The seed of a run that failed, to see it fail again: `PROOF_SEED=123 npm run prove`. What failed was printed with
 * its seed. Without it each run has a seed of its own.
 */
export const given = (): { readonly seed?: number } => {
  const seed = process.env["PROOF_SEED"]
  return seed === undefined ? {} : { seed: Number(seed) }
}

/** The seed that is given, or one of this run. Say it with whatever fails. */
export const chosen = (): number => given().seed ?? Math.floor(Math.random() * 2 ** 31)
