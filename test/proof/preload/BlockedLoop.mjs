// Loaded before the program: SIGUSR2 blocks its event loop for BLOCK_MILLIS. Its connections stay open meanwhile.
import { writeSync } from "node:fs"

const stderr = 2
const nobody = new Int32Array(new SharedArrayBuffer(4))

process.on("SIGUSR2", () => {
  writeSync(stderr, "the event loop is blocked\n")
  Atomics.wait(nobody, 0, 0, Number(process.env.BLOCK_MILLIS))
  writeSync(stderr, "the event loop is free\n")
})
