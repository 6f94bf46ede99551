import { Effect } from "effect"
import { strict as assert } from "node:assert"
import { eventually } from "../harness/Eventually.js"
import type { Topics } from "../harness/Topics.js"

/** When each record was written whose event was on the topic before, in milliseconds of the epoch. */
export const times = (topics: Topics, topic: string) =>
  Effect.gen(function*() {
    const end = (yield* topics.ends(topic)).reduce((sum, { high }) => sum + Number(high), 0)
    const records = yield* topics.follow(topic)
    yield* eventually("60 seconds")(Effect.sync(() => assert.ok(records.length >= end, `${records.length} of ${end}`)))
    const seen = new Set<string>()
    return records.map((record) => ({ time: Number(record.timestamp), body: record.value!.toString() }))
      .sort((a, b) => a.time - b.time)
      .flatMap(({ body, time }) => {
        const again = seen.has(body)
        seen.add(body)
        return again ? [time] : []
      })
  }).pipe(Effect.scoped)
