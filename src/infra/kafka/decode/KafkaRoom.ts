import { setImmediate } from "node:timers/promises"

/** What a record takes besides its bytes, about. */
const recordOverhead = 256
/** The event loop is held for no longer, in milliseconds. */
const turn = 10

/** How much may be read before what there is is handed out. */
export class Room {
  private since = performance.now()
  private readonly until: number
  /** @param bytes of records and what holds them @param millis of time */
  constructor(private bytes: number, millis: number) {
    this.until = this.since + millis
  }
  get left() {
    return this.bytes
  }
  take(bytes: number) {
    this.bytes -= bytes + recordOverhead
  }
  isFull() {
    return this.bytes <= 0
  }
  isLate() {
    return performance.now() >= this.until
  }
  /** Lets others have the event loop when it was held for a turn. */
  isLong() {
    return performance.now() - this.since > turn
  }
  async rest() {
    await setImmediate()
    this.since = performance.now()
  }
}
