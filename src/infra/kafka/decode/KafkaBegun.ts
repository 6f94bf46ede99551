import type { RecordReader } from "./KafkaRecordReader.js"

/** A batch that was read in part. The next fetch brings it again, and reading goes on where it stopped. */
interface Begun {
  readonly header: Buffer
  readonly reader: RecordReader
}

/** The most batches that are remembered. Reading of another batch decompresses and skips its first records again. */
const remembered = 16
const begun = new Map<string, Begun>()

/** Keeps a batch until the next fetch of its topic and partition. */
export const remember = (partition: string, batch: Begun) => {
  begun.set(partition, batch)
  for (const [oldest, { reader }] of begun) {
    if (begun.size <= remembered) return
    begun.delete(oldest)
    reader.close()
  }
}

/** The remembered reader of the batch with this header, if its next offset is `from`. It is not remembered any more. */
export const recall = (partition: string, header: Buffer, from: number) => {
  const found = begun.get(partition)
  if (found === undefined) return undefined
  begun.delete(partition)
  if (found.reader.next === from && found.header.equals(header)) return found.reader
  found.reader.close()
  return undefined
}
