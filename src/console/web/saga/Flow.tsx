import { useEffect, useState } from "preact/hooks"
import { lasting } from "../Time.js"
import type * as Wire from "../Wire.js"

interface Station {
  readonly id: string
  readonly title: string
  readonly kind: string
  readonly href: string
  readonly value: string
  readonly unit: string
  readonly state: string
  readonly level: "ok" | "warn" | "bad" | "unknown"
  /** Its own part stands still; a dead event beside it holds up one order only. */
  readonly halted: boolean
  readonly topic?: boolean
}

const figure = (value: number | null) =>
  value === null
    ? "–"
    : value >= 10 || Number.isInteger(value)
    ? Math.round(value).toLocaleString("en")
    : value.toFixed(1)

const level = (
  parts: ReadonlyArray<Wire.PartState>,
  standing: ReadonlyArray<Wire.Standing>,
  where: ReadonlyArray<string>
) => {
  const stands = standing.filter((one) => where.includes(one.where))
  return parts.some(({ ok, required, state }) => !ok && required && state !== "starting") ||
      stands.some(({ urgent }) => urgent)
    ? "bad" as const
    : parts.some(({ ok }) => !ok) || stands.length > 0
    ? "warn" as const
    : parts.length === 0
    ? "unknown" as const
    : "ok" as const
}

/** The stations of the flow, from the live state. A part that runs in another process has no state here. */
const stationsOf = ({ now, parts, standing }: Wire.Saga): { readonly [id: string]: Station } => {
  const station = (
    id: string,
    names: ReadonlyArray<string>,
    where: ReadonlyArray<string>,
    rest: Omit<Station, "id" | "state" | "level" | "halted"> & { readonly fine?: string }
  ): Station => {
    const own = parts.filter(({ name }) => names.includes(name))
    const judged = level(own, standing, where)
    const waiting = own.find(({ ok }) => !ok)
    const state = waiting !== undefined
      ? waiting.waiting_for === null ? waiting.state : `waits for ${waiting.waiting_for}`
      : judged === "unknown"
      ? "in another process"
      : judged === "ok"
      ? rest.fine ?? "works"
      : "look"
    return { ...rest, id, state, level: judged, halted: judged === "bad" && waiting !== undefined }
  }
  return {
    inventory: station("inventory", ["inventory-topics"], ["inventory"], {
      title: "inventory",
      kind: "topic",
      href: "#/topics/inventory",
      value: figure(now.lag),
      unit: "records behind",
      topic: true
    }),
    consumer: station("consumer", ["inventory-consumer"], ["consumer"], {
      title: "consumer",
      kind: "reads reservations",
      href: "#/topics/inventory",
      value: figure(now.consumed),
      unit: "records / s"
    }),
    redis: station("redis", ["redis"], [], {
      title: "Redis",
      kind: "seen before?",
      href: "#/runbook/redis-is-away",
      value: "",
      unit: ""
    }),
    letters: station("letters", ["inventory-topics"], ["dead-letters"], {
      title: "dead letters",
      kind: "topic",
      href: "#/dead-letters",
      value: figure(now.dead_letters),
      unit: "letters",
      topic: true,
      fine: "works"
    }),
    database: station("database", ["postgres", "migrations"], [], {
      title: "payment + event",
      kind: "PostgreSQL",
      href: "#/orders",
      value: figure(now.payments),
      unit: "payments / s"
    }),
    grpc: station("grpc", ["grpc-server", "grpc-keys"], [], {
      title: "gRPC",
      kind: "pay or refuse",
      href: "#/orders",
      value: figure(now.settled),
      unit: "settled / s"
    }),
    relay: station("relay", ["outbox-relay"], ["outbox", "relay"], {
      title: "relay",
      kind: "transactional outbox",
      href: "#/outbox",
      value: figure(now.waiting),
      unit: now.oldest_seconds === null || now.oldest_seconds < 1
        ? "events waiting"
        : `waiting, oldest ${lasting(now.oldest_seconds)}`
    }),
    payment: station("payment", ["payment-topic"], [], {
      title: "payment",
      kind: "topic",
      href: "#/topics/payment",
      value: figure(now.published),
      unit: "events / s",
      topic: true
    })
  }
}

interface Layout {
  readonly size: readonly [number, number]
  readonly at: { readonly [id: string]: readonly [number, number] }
  /** From, to, and the points of the line. */
  readonly edges: ReadonlyArray<readonly [string, string, string]>
}

const [width, height, low] = [168, 118, 66]
const wide: Layout = {
  size: [1064, 384],
  at: {
    inventory: [4, 108],
    consumer: [226, 108],
    database: [448, 108],
    relay: [670, 108],
    payment: [892, 108],
    redis: [226, 4],
    letters: [226, 262],
    grpc: [448, 262]
  },
  edges: [
    ["inventory", "consumer", "172,167 222,167"],
    ["consumer", "database", "394,167 444,167"],
    ["database", "relay", "616,167 666,167"],
    ["relay", "payment", "838,167 888,167"],
    ["redis", "consumer", "310,70 310,104"],
    ["consumer", "letters", "310,226 310,258"],
    ["grpc", "database", "532,262 532,230"]
  ]
}
const narrow: Layout = {
  size: [352, 678],
  at: {
    inventory: [4, 4],
    redis: [180, 56],
    consumer: [4, 156],
    letters: [180, 156],
    database: [4, 308],
    grpc: [180, 308],
    relay: [4, 460],
    payment: [180, 556]
  },
  edges: [
    ["inventory", "consumer", "60,122 60,152"],
    ["redis", "consumer", "200,122 160,152"],
    ["consumer", "letters", "172,215 177,215"],
    ["consumer", "database", "60,274 60,304"],
    ["grpc", "database", "180,367 175,367"],
    ["database", "relay", "60,426 60,456"],
    ["relay", "payment", "60,578 60,615 176,615"]
  ]
}

const Box = ({ at: [x, y], station }: { readonly at: readonly [number, number]; readonly station: Station }) => {
  const { href, kind, level, state, title, topic, unit, value } = station
  const tall = value === "" ? low : height
  const shown = state.length > 24 ? `${state.slice(0, 23)}…` : state
  return (
    <a
      href={href}
      class={level}
      data-station={station.id}
      data-level={level}
    >
      <rect
        class={topic === true ? "box topic" : "box"}
        x={x}
        y={y}
        width={width}
        height={tall}
        rx={topic === true ? 22 : 9}
      />
      <text class="title" x={x + 14} y={y + 23}>{`${title} `}</text>
      <text class="kind" x={x + 14} y={y + 39}>{`${kind} `}</text>
      {value === "" ? null : <text class="value" x={x + 14} y={y + 66}>{`${value} `}</text>}
      {value === "" ? null : <text class="unit" x={x + 14} y={y + 84}>{`${unit} `}</text>}
      <text class="state" x={x + 14} y={y + tall - 11}>{shown}</text>
    </a>
  )
}

/** The figures that say whether something runs along a line. */
const running = ({ now }: Wire.Saga): { readonly [edge: string]: number | null } => ({
  "inventory consumer": now.consumed,
  "consumer database": now.payments,
  "grpc database": now.settled,
  "database relay": now.published,
  "relay payment": now.published
})

/** The flow as a picture: each station with its figure and its state, lines that run while records run. */
export const Flow = ({ saga }: { readonly saga: Wire.Saga }) => {
  const [query] = useState(() => matchMedia("(max-width: 720px)"))
  const [small, setSmall] = useState(query.matches)
  useEffect(() => {
    const follow = () => setSmall(query.matches)
    query.addEventListener("change", follow)
    return () => query.removeEventListener("change", follow)
  }, [])
  const { at, edges, size: [w, h] } = small ? narrow : wide
  const stations = stationsOf(saga)
  const rates = running(saga)
  return (
    <svg class="flow" viewBox={`0 0 ${w} ${h}`} role="group" aria-label="The flow of an order, with live figures">
      <defs>
        <marker
          id="arrow"
          viewBox="0 0 8 8"
          refX="6"
          refY="4"
          markerWidth="8"
          markerHeight="8"
          markerUnits="userSpaceOnUse"
          orient="auto"
        >
          <path class="arrow" d="M0 0 8 4 0 8z" />
        </marker>
      </defs>
      {edges.map(([from, to, points]) => {
        const halted = stations[from]!.halted || stations[to]!.halted
        const runs = !halted && (rates[`${from} ${to}`] ?? 0) > 0
        return (
          <g aria-hidden="true" key={`${from} ${to}`}>
            <polyline class={halted ? "halt" : "edge"} points={points} marker-end="url(#arrow)" />
            {runs ? <polyline class="run" points={points} /> : null}
          </g>
        )
      })}
      {Object.values(stations).map((station) => <Box key={station.id} station={station} at={at[station.id]!} />)}
    </svg>
  )
}
