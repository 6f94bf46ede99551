import { useEffect, useRef } from "preact/hooks"
import uPlot from "uplot"
import { lasting } from "../Time.js"
import type * as Wire from "../Wire.js"

interface Kind {
  readonly name: string
  readonly of: keyof Wire.Sample
  readonly unit: string
  readonly show?: (value: number) => string
}

const figure = (value: number) =>
  value >= 10 || Number.isInteger(value) ? Math.round(value).toLocaleString("en") : value.toFixed(1)

const kinds: ReadonlyArray<Kind> = [
  { name: "Records consumed", of: "consumed", unit: "a second" },
  { name: "Payments created", of: "payments", unit: "a second" },
  { name: "Payments settled", of: "settled", unit: "a second" },
  { name: "Events published", of: "published", unit: "a second" },
  { name: "Lag of the consumer", of: "lag", unit: "records" },
  { name: "Events waiting", of: "waiting", unit: "events" },
  { name: "Oldest waiting event", of: "oldest_seconds", unit: "", show: lasting },
  { name: "Dead events", of: "dead", unit: "events" }
]

const colours = () => {
  const style = getComputedStyle(document.documentElement)
  return { line: style.getPropertyValue("--accent").trim(), fill: style.getPropertyValue("--accent-soft").trim() }
}

/** A line without axes. Its text is beside it, so the picture itself is only an image for screen readers. */
const Spark = ({ history, kind }: { readonly history: ReadonlyArray<Wire.Sample>; readonly kind: Kind }) => {
  const place = useRef<HTMLDivElement>(null)
  const plot = useRef<uPlot>(undefined)
  const values = history.map((sample) => sample[kind.of] as number | null)
  const data: uPlot.AlignedData = [history.map(({ at }) => Date.parse(at) / 1_000), values]
  useEffect(() => {
    const element = place.current!
    const scheme = matchMedia("(prefers-color-scheme: dark)")
    const draw = () => {
      plot.current?.destroy()
      const { fill, line } = colours()
      plot.current = new uPlot(
        {
          width: element.clientWidth,
          height: 46,
          padding: [3, 0, 3, 0],
          legend: { show: false },
          cursor: { show: false },
          axes: [{ show: false }, { show: false }],
          scales: {
            // the last 15 minutes, also when there are fewer samples
            x: { time: true, range: (_plot, _min, max) => [max - 900, max] },
            y: { range: (_plot, _min, max) => [0, Math.max(max, 1)] }
          },
          series: [{}, { stroke: line, fill, width: 1.6, points: { show: false } }]
        },
        data,
        element
      )
    }
    draw()
    const resized = new ResizeObserver(() => plot.current?.setSize({ width: element.clientWidth, height: 46 }))
    resized.observe(element)
    scheme.addEventListener("change", draw)
    return () => {
      scheme.removeEventListener("change", draw)
      resized.disconnect()
      plot.current?.destroy()
    }
  }, [])
  useEffect(() => plot.current?.setData(data), [history])
  const show = kind.show ?? figure
  const known = values.filter((value) => value !== null)
  const now = values.at(-1)
  const most = known.length === 0 ? undefined : Math.max(...known)
  return (
    <div class="card spark" data-spark={kind.of}>
      <div class="muted small">{kind.name}</div>
      <div>
        <span class="big">{now === null || now === undefined ? "–" : show(now)}</span>{" "}
        <span class="muted small">{kind.unit}</span>
      </div>
      <div
        class="plot"
        ref={place}
        role="img"
        aria-label={`${kind.name}, last 15 minutes: ${
          most === undefined ? "not known" : `at most ${show(most)} ${kind.unit}`
        }`}
      />
      <div class="muted small">15 min, most {most === undefined ? "–" : show(most)}</div>
    </div>
  )
}

/** The last 15 minutes. */
export const Sparks = ({ saga }: { readonly saga: Wire.SagaWithHistory }) => (
  <section class="sparks" aria-label="The last 15 minutes">
    {kinds.map((kind) => <Spark key={kind.of} kind={kind} history={saga.history} />)}
  </section>
)
