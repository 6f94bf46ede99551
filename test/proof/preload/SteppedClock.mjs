// Loaded before the program: each SIGUSR2 sets its wall clock forward or back by the next of CLOCK_STEPS_MILLIS. The monotonic clock goes on.
import { writeSync } from "node:fs"

const stderr = 2
const steps = (process.env.CLOCK_STEPS_MILLIS ?? "").split(",").map(Number)
let shift = 0

process.on("SIGUSR2", () => {
  const step = steps.shift() ?? 0
  shift += step
  writeSync(stderr, `the clock is set by ${step} ms\n`)
})

globalThis.Date = new Proxy(Date, {
  apply: (date) => new date(date.now() + shift).toString(),
  construct: (date, args, target) => Reflect.construct(date, args.length === 0 ? [date.now() + shift] : args, target),
  get: (date, name) => name === "now" ? () => date.now() + shift : Reflect.get(date, name)
})
