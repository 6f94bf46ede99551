/** Wall-clock time in microseconds: that of the database's clock, when both run on one machine. */
export const nowMicros = () => (performance.timeOrigin + performance.now()) * 1000

export const sleep = (millis: number) => new Promise<void>((resolve) => setTimeout(resolve, millis))

/** Asks until the answer is yes; fails after `seconds`, saying what was waited for. */
export const until = async (what: string, seconds: number, ask: () => Promise<boolean>, every = 20) => {
  const end = performance.now() + seconds * 1000
  while (!(await ask())) {
    if (performance.now() > end) throw new Error(`waited ${seconds} s for ${what}`)
    await sleep(every)
  }
}
