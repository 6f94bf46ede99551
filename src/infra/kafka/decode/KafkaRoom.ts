import { setImmediate } from "node:timers/promises"

/** Memory of a record besides its bytes, estimated. */
const recordOverhead = 256
/** The longest time without a turn of the event loop, in milliseconds. */
const turn = 10

/** The budget of one call that reads records. */
export class Room {
  private since = performance.now()
  private readonly until: number
  /** @param bytes of records, with their overhead @param millis of time */
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
  /** Whether the event loop needs a turn. */
  isLong() {
    return performance.now() - this.since > turn
  }
  /** Gives the event loop a turn. */
  async rest() {
    await setImmediate()
    this.since = performance.now()
  }
}
