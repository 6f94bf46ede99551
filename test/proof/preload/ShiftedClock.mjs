// Loaded before the program: its wall clock is CLOCK_SHIFT_MILLIS off. The monotonic clock is as it was.
const shift = Number(process.env.CLOCK_SHIFT_MILLIS)

globalThis.Date = new Proxy(Date, {
  apply: (date) => new date(date.now() + shift).toString(),
  construct: (date, args, target) => Reflect.construct(date, args.length === 0 ? [date.now() + shift] : args, target),
  get: (date, name) => name === "now" ? () => date.now() + shift : Reflect.get(date, name)
})
