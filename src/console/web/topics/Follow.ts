import { useEffect, useState } from "preact/hooks"
import { Refused } from "../Calls.js"
import type * as Wire from "../Wire.js"
import { placeOf } from "./Records.js"

/** The most records that a page keeps while it follows. */
const most = 300

interface Following {
  readonly stream: "connecting" | "live" | "lost" | "off"
  readonly records: ReadonlyArray<Wire.Record>
  readonly leftOut: number
}

const nothing: Following = { stream: "off", records: [], leftOut: 0 }

/** Hook: the records that match the filter and are written while the reader follows, newest first. */
export const useFollow = (name: string, filter: Readonly<Record<string, string>>, follows: boolean) => {
  const query = new URLSearchParams(Object.entries(filter).filter(([, value]) => value !== "")).toString()
  const [now, setNow] = useState<Following>(nothing)
  useEffect(() => {
    if (!follows) return setNow(nothing)
    setNow({ ...nothing, stream: "connecting" })
    const source = new EventSource(`api/topics/${name}/live${query === "" ? "" : `?${query}`}`)
    source.addEventListener("ready", () => setNow((before) => ({ ...before, stream: "live" })))
    source.addEventListener("records", (event) => {
      const { left_out, records }: { readonly left_out: number; readonly records: ReadonlyArray<Wire.Record> } = JSON
        .parse(
          (event as MessageEvent<string>).data
        )
      setNow((before) => ({
        stream: "live",
        leftOut: before.leftOut + left_out,
        records: [...[...records].reverse(), ...before.records].slice(0, most)
      }))
    })
    source.addEventListener("error", () => setNow((before) => ({ ...before, stream: "lost" })))
    return () => source.close()
  }, [name, query, follows])
  const places = new Set(now.records.map(placeOf))
  return {
    stream: now.stream,
    records: now.records,
    says: now.stream === "live"
      ? now.leftOut === 0
        ? "new records appear here"
        : `${now.leftOut} records came too fast and are not shown: search for them`
      : now.stream === "lost"
      ? ""
      : "connecting …",
    error: now.stream === "lost"
      ? new Refused(
        "The stream of records is lost, or too many pages follow topics. The browser tries again; or switch it off and on.",
        "Lost"
      )
      : undefined,
    has: (record: Wire.Record) => places.has(placeOf(record))
  }
}
