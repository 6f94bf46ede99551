type Value = Uint8Array | string | null | undefined

/** The parts of a record that have limits. */
interface Sized {
  readonly key: Uint8Array | null
  readonly value: Uint8Array | null
  readonly headers?: Readonly<Record<string, Value | ReadonlyArray<Value>>>
  readonly unread?: { readonly reason: string }
}

/**
 * Limits of a record of topic `inventory`, after decompression, in bytes. An event has about 120 bytes, and a broker takes
 * batches of at most 1 MiB by default.
 */
export const limits = {
  value: 1024 * 1024,
  key: 1024 * 1024,
  headers: 1_000,
  /** Names and values of all headers. */
  headerBytes: 1024 * 1024
} as const

const headersOf = (headers: NonNullable<Sized["headers"]>) => {
  let [count, bytes] = [0, 0]
  for (const name of Object.keys(headers)) {
    const value = headers[name]
    const values: ReadonlyArray<Value> = Array.isArray(value) ? value : [value as Value]
    count += values.length
    bytes += values.length * name.length
    for (const each of values) bytes += each?.length ?? 0
  }
  return { count, bytes }
}

/** Why a record becomes a dead letter without decoding: it is too large, or was not read as a whole. Undefined otherwise. */
export const refusal = ({ headers, key, unread, value }: Sized): string | undefined => {
  if (unread !== undefined) return unread.reason
  if (value !== null && value.length > limits.value) return `value is larger than ${limits.value} bytes`
  if (key !== null && key.length > limits.key) return `key is larger than ${limits.key} bytes`
  if (headers === undefined) return undefined
  const { bytes, count } = headersOf(headers)
  if (count > limits.headers) return `record has more than ${limits.headers} headers`
  return bytes > limits.headerBytes ? `headers are larger than ${limits.headerBytes} bytes` : undefined
}
