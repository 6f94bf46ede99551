/** Wall-clock time in microseconds; equals the database's clock on the same machine. */
export const nowMicros = () => (performance.timeOrigin + performance.now()) * 1000

export const sleep = (millis: number) => new Promise<void>((resolve) => setTimeout(resolve, millis))

/** Repeats a check until it is true. Fails after `seconds`, with the name of the check. */
export const until = async (what: string, seconds: number, ask: () => Promise<boolean>, every = 20) => {
  const end = performance.now() + seconds * 1000
  while (!(await ask())) {
    if (performance.now() > end) throw new Error(`waited ${seconds} s for ${what}`)
    await sleep(every)
  }
}
