import { useEffect, useState } from "preact/hooks"
import * as Store from "./Store.js"

const zone = Intl.DateTimeFormat("en").resolvedOptions().timeZone

/** Whether times are shown in UTC, or in the zone of the reader. */
export const inUtc = Store.make(false)

const two = (value: number) => String(value).padStart(2, "0")

const parts = (at: Date, utc: boolean) =>
  utc
    ? { day: at.toISOString().slice(0, 10), time: at.toISOString().slice(11, 23) }
    : {
      day: `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`,
      time: `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}.${
        String(at.getMilliseconds()).padStart(3, "0")
      }`
    }

/** A time in the zone of the reader; its title is UTC. The day is left out when it is today. */
export const Time = ({ at, millis = false }: { readonly at: string | null; readonly millis?: boolean }) => {
  const utc = inUtc.use()
  if (at === null) return <span class="muted">no time</span>
  const shown = parts(new Date(at), utc)
  const clock = millis ? shown.time : shown.time.slice(0, 8)
  return (
    <time dateTime={at} title={`${at.replace("T", " ").replace("Z", "")} UTC`}>
      {shown.day === parts(new Date(), utc).day ? clock : `${shown.day} ${clock}`}
    </time>
  )
}

const iso = /(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z)/

/** A sentence of the server, with its times as all others of the page. */
export const Told = ({ text }: { readonly text: string }) => (
  <>
    {text.split(iso).map((part, index) => index % 2 === 1 ? <Time key={index} at={part} /> : part)}
  </>
)

const units = [[86_400, "d"], [3_600, "h"], [60, "min"], [1, "s"]] as const

/** A duration by its largest unit, and the next one below ten: `3 min`, `1 h 12 min`. */
export const lasting = (seconds: number) => {
  const whole = Math.max(0, Math.round(seconds))
  const index = units.findIndex(([size]) => whole >= size)
  if (index < 0) return "0 s"
  const [size, unit] = units[index]!
  const next = units[index + 1]
  const count = Math.floor(whole / size)
  const rest = next === undefined || count >= 10 ? 0 : Math.floor((whole % size) / next[0])
  return `${count} ${unit}${rest === 0 ? "" : ` ${rest} ${next![1]}`}`
}

/** A number with its noun: `1 record`, `2,000 records`. */
export const counted = (count: number | bigint, noun: string) =>
  `${count.toLocaleString("en")} ${noun}${Number(count) === 1 ? "" : "s"}`

/** How long ago, renewed every second. */
export const Since = ({ at }: { readonly at: string }) => {
  const [now, setNow] = useState(() => Date.now())
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 1_000)
    return () => clearInterval(timer)
  }, [])
  return <span class="nowrap">{lasting((now - Date.parse(at)) / 1_000)}</span>
}

/** Switches between the zone of the reader and UTC. */
export const ZoneButton = () => {
  const utc = inUtc.use()
  return (
    <button
      type="button"
      class="plain"
      aria-pressed={utc}
      title="Show times in UTC, or in your zone"
      onClick={() => inUtc.set(!utc)}
    >
      {utc ? "times in UTC" : `times in ${zone}`}
    </button>
  )
}
