/** A change of a private part of kafkajs at run time. */
export interface Patch {
  /** Module of the library, e.g. `kafkajs/src/broker`. */
  readonly module: string
  /** Functions that it calls or replaces, of the module's prototype or of the module, with their number of parameters. */
  readonly members: Readonly<Record<string, number>>
  /** Applies the change. Called once. */
  readonly install: () => void
}
