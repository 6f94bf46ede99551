/** Loads a module of kafkajs, e.g. `kafkajs/src/broker`. */
export type Load = (module: string) => unknown

/** A change of private parts of kafkajs at run time. */
export interface Patch {
  /** Module of the library, e.g. `kafkajs/src/broker`. */
  readonly module: string
  /** Functions that the patch calls or replaces, with their number of parameters: of the class, or of the module. */
  readonly members: Readonly<Record<string, number>>
  /** Changes the copy of the library that `load` loads. Call it once for each copy. */
  readonly install: (load: Load) => void
}
