import type { RecordReader } from "./KafkaRecordReader.js"

/** A batch of which a part was handed out: the next fetch brings it again, and goes on in it. */
interface Begun {
  readonly header: Buffer
  readonly reader: RecordReader
}

/** So many batches are remembered. Of one that is forgotten, what was handed out is decompressed and skipped again. */
const remembered = 16
const begun = new Map<string, Begun>()

/** Keeps a batch until the next fetch of its place. */
export const remember = (place: string, batch: Begun) => {
  begun.set(place, batch)
  for (const [oldest, { reader }] of begun) {
    if (begun.size <= remembered) return
    begun.delete(oldest)
    reader.close()
  }
}

/** Takes the reader of the batch with this header that stands at offset `from`, if it is remembered. */
export const recall = (place: string, header: Buffer, from: number) => {
  const found = begun.get(place)
  if (found === undefined) return undefined
  begun.delete(place)
  if (found.reader.next === from && found.header.equals(header)) return found.reader
  found.reader.close()
  return undefined
}
