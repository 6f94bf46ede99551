import { useEffect, useState } from "preact/hooks"
import { Problem, Shown, useAnswer } from "../Answer.js"
import { api } from "../Calls.js"
import { More, usePages } from "../Pages.js"
import * as Route from "../Route.js"
import * as Session from "../Session.js"
import { counted } from "../Time.js"
import { useFollow } from "../topics/Follow.js"
import { Records } from "../topics/Records.js"
import { Write } from "../topics/Write.js"
import type * as Wire from "../Wire.js"

const names: ReadonlyArray<Wire.TopicName> = ["inventory", "payment", "dead-letters"]

const isoOf = (local: string) => local === "" ? undefined : new Date(local).toISOString()

const total = (topic: Wire.Topics["topics"][number]) =>
  topic.partitions.reduce((sum, { end, start }) => sum + (BigInt(end) - BigInt(start)), 0n)

/** A topic: its newest records, or those from a place or time on; live if the reader wants. */
export const TopicPage = ({ name }: { readonly name: string }) => {
  const { query } = Route.route.use()
  const mayWrite = Session.useMay("inventory:write")
  const local = Session.session.use()?.local === true
  const [writing, setWriting] = useState(false)
  const [follows, setFollows] = useState(false)
  const [wrong, setWrong] = useState<string>()
  const filter = Object.fromEntries(
    ["partition", "offset", "from", "until", "key", "contains"].map((field) => [field, query.get(field) ?? ""])
  ) as { readonly [field in "partition" | "offset" | "from" | "until" | "key" | "contains"]: string }
  const asked = { ...filter, from: isoOf(filter.from), until: isoOf(filter.until) }
  const topics = useAnswer("topics", (signal) => api.topics(signal))
  const pages = usePages(JSON.stringify([name, asked]), async (after, signal) => {
    const page = await api.records(name, { ...asked, after, limit: 50 }, signal)
    return { items: page.records, next: page.next, examined: page.examined }
  })
  const topic = topics.value?.topics.find((one) => one.name === name)
  // the records are asked for again while the broker is away; with them comes the size of the topic
  useEffect(() => {
    if (pages.answer.value !== undefined && (topic?.problem ?? null) !== null) topics.reload()
  }, [pages.answer.value])
  const { contains, key, partition } = filter
  const follow = useFollow(name, { contains, key, partition }, follows)
  const search = (event: SubmitEvent) => {
    event.preventDefault()
    const data = new FormData(event.currentTarget as HTMLFormElement)
    const lacksPartition = data.get("offset") !== "" && data.get("partition") === ""
    setWrong(lacksPartition ? "Each partition counts its own offsets: choose the partition, too." : undefined)
    if (lacksPartition) return
    Route.filter(Object.fromEntries([...data].map(([field, value]) => [field, String(value).trim()])))
  }
  const reload = () => {
    pages.reload()
    topics.reload()
  }
  return (
    <>
      <div class="head">
        <h1 tabIndex={-1}>Topic {topic?.topic ?? name}</h1>
        {topic === undefined || topic.problem !== null ?
          null :
          (
            <span class="muted">
              {counted(total(topic), "record")} in {counted(topic.partitions.length, "partition")}
            </span>
          )}
        <span class="grow" />
        {name === "inventory" && mayWrite && local
          ? <button type="button" class="main" onClick={() => setWriting(true)}>Write a record …</button>
          : null}
      </div>
      <nav class="tabs" aria-label="Topics">
        {names.map((one) => (
          <a key={one} href={Route.to(["topics", one])} aria-current={one === name ? "page" : undefined}>
            {topics.value?.topics.find((topic) =>
              topic.name === one
            )?.topic ?? one}
          </a>
        ))}
      </nav>
      <section class="card stack" aria-label="Records">
        {topic?.problem === undefined || topic.problem === null || pages.answer.error !== undefined
          ? null
          : <div class="note bad" role="alert">{topic.problem}</div>}
        <form class="row" onSubmit={search} role="search" key={JSON.stringify([name, filter])}>
          <label>
            Partition
            <select name="partition" defaultValue={filter.partition}>
              <option value="">all</option>
              {topic?.partitions.map(({ end, partition, start }) => (
                <option value={String(partition)} selected={filter.partition === String(partition)}>
                  {partition}: {start} … {end}
                </option>
              ))}
            </select>
          </label>
          <label>
            From offset<input
              name="offset"
              size={9}
              defaultValue={filter.offset}
              inputMode="numeric"
              pattern="[0-9]{1,18}"
              title="digits; needs a partition"
            />
          </label>
          <label>
            From time<input name="from" type="datetime-local" step="1" defaultValue={filter.from} />
          </label>
          <label>
            Key<input name="key" size={14} defaultValue={filter.key} />
          </label>
          <label>
            Contains<input name="contains" size={14} defaultValue={filter.contains} />
          </label>
          <button type="submit">Search</button>
          <button type="button" onClick={() => Route.filter({})}>Newest</button>
        </form>
        {wrong === undefined ? null : <p class="small" role="alert">{wrong}</p>}
        <div class="row">
          <label class="check">
            <input
              type="checkbox"
              checked={follows}
              onChange={(event) => setFollows(event.currentTarget.checked)}
            />follow live
          </label>
          {follows ? <span role="status" class="small muted" data-follow={follow.stream}>{follow.says}</span> : null}
          <span class="grow" />
          <button type="button" onClick={reload}>Refresh</button>
        </div>
        {follow.error === undefined ? null : <Problem error={follow.error} />}
        {follow.records.length === 0 ? null : <Records caption="New records" records={follow.records} empty="" />}
        <Shown answer={pages.answer}>
          {() => (
            <>
              <Records
                caption="Records"
                records={pages.items.filter((record) => !follow.has(record))}
                empty={pages.next === null ? "No record here." : "None yet among those read."}
              />
              <More pages={pages} says={`read ${counted(pages.examined, "record")}`} />
            </>
          )}
        </Shown>
      </section>
      {writing ? <Write onClose={() => setWriting(false)} onDone={reload} /> : null}
    </>
  )
}
