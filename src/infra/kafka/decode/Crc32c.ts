/** Eight tables of 256: the checksum of a byte before 0 to 7 other bytes. */
const tables = new Int32Array(8 * 256)
for (let byte = 0; byte < 256; byte++) {
  let sum = byte
  for (let bit = 0; bit < 8; bit++) sum = (sum & 1) === 1 ? (sum >>> 1) ^ 0x82f63b78 : sum >>> 1
  tables[byte] = sum
}
for (let i = 256; i < tables.length; i++) {
  const before = tables[i - 256]!
  tables[i] = (before >>> 8) ^ tables[before & 0xff]!
}

/** CRC-32C (Castagnoli), the checksum of Kafka's record batches. Eight bytes a step take half the time of one. */
export const crc32c = (bytes: Uint8Array): number => {
  const t = tables
  const whole = bytes.length - 7
  let sum = -1
  let i = 0
  for (; i < whole; i += 8) {
    sum ^= bytes[i]! | (bytes[i + 1]! << 8) | (bytes[i + 2]! << 16) | (bytes[i + 3]! << 24)
    sum = t[0x700 + (sum & 0xff)]! ^ t[0x600 + ((sum >>> 8) & 0xff)]! ^ t[0x500 + ((sum >>> 16) & 0xff)]! ^
      t[0x400 + (sum >>> 24)]! ^ t[0x300 + bytes[i + 4]!]! ^ t[0x200 + bytes[i + 5]!]! ^ t[0x100 + bytes[i + 6]!]! ^
      t[bytes[i + 7]!]!
  }
  for (; i < bytes.length; i++) sum = t[(sum ^ bytes[i]!) & 0xff]! ^ (sum >>> 8)
  return ~sum >>> 0
}
