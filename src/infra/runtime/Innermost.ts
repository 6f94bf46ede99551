/** The error at the end of the chain of causes: clients wrap the error of their socket. */
export const innermost = (error: unknown): unknown =>
  typeof error === "object" && error !== null && "cause" in error && error.cause !== undefined
    ? innermost(error.cause)
    : error

/** The words of an error; its code when it has no words. */
export const wordsOf = (error: unknown): string =>
  error instanceof Error ? error.message || String((error as { readonly code?: string }).code) : String(error)
