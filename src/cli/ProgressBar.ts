import { Effect } from "effect"

const width = 30

/** A progress bar on standard error when that is a terminal. */
export const progressBar = Effect.map(Effect.clock, (clock) => {
  let drawn = 0
  const write = (text: string) => Effect.sync(() => void process.stderr.write(text))
  return process.stderr.isTTY
    ? {
      draw: (done: number, total: number) =>
        Effect.suspend(() => {
          const now = clock.unsafeCurrentTimeMillis()
          if (now - drawn < 100) return Effect.void
          drawn = now
          const part = Math.min(1, done / Math.max(1, total))
          const filled = Math.round(part * width)
          const bar = "#".repeat(filled) + "-".repeat(width - filled)
          return write(`\r[${bar}] ${String(Math.floor(part * 100)).padStart(3)} %  ${done} of ${total}`)
        }),
      clear: write("\r\u001b[K")
    }
    : { draw: () => Effect.void, clear: Effect.void }
})
