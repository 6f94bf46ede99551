import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "@effect/platform"
import { Schema } from "effect"
import { Admin, Writes } from "./Access.js"
import * as Fields from "./Fields.js"
import { BadRequest, NotFound, NotHere, TooMany, Unavailable } from "./Refusals.js"

/** The topics of the saga by their part in it; the settings have their names. */
export const TopicName = Schema.Literal("inventory", "payment", "dead-letters")
export type TopicName = typeof TopicName.Type

export const Topics = Schema.Struct({
  topics: Schema.Array(Schema.Struct({
    name: TopicName,
    topic: Schema.String,
    partitions: Schema.Array(
      Schema.Struct({ partition: Schema.Int, start: Schema.String, end: Schema.String })
    ),
    /** Why the topic cannot be read; null when it can. */
    problem: Schema.NullOr(Schema.String)
  }))
}).annotations({ identifier: "Topics" })

export const Records = Schema.Struct({
  topic: Schema.String,
  /** Newest first without `from`, `offset`; otherwise oldest first. */
  records: Schema.Array(Fields.Record),
  examined: Schema.Int.annotations({ description: "Records that this request read" }),
  ended: Schema.Literal("end", "limit", "examined", "bytes", "time").annotations({
    description: "What ended the search: the topic, or a limit of the request"
  }),
  /** Where to go on: `partition@offset` for each partition, comma-separated; null at the end. Give it as `after`. */
  next: Schema.NullOr(Schema.String)
}).annotations({ identifier: "Records" })

export const Write = Schema.Struct({
  ...Fields.author,
  key: Schema.optional(Schema.String.pipe(Schema.maxLength(1_000))),
  value: Schema.String.pipe(Schema.maxLength(65_536)).annotations({
    description: "The text of the record: JSON with idempotent_key, order_id and status"
  })
}).annotations({ identifier: "Write" })

export const Written = Schema.Struct({ topic: Schema.String, partition: Schema.Int, offset: Schema.String })
  .annotations({ identifier: "Written" })

const path = Schema.Struct({ topic: TopicName })

const wanted = {
  partition: Schema.optional(Fields.partition),
  key: Schema.optional(Fields.search).annotations({ description: "The whole key of the record" }),
  contains: Schema.optional(Fields.search).annotations({ description: "Text that key or value contains" })
}

export const group = HttpApiGroup.make("topics")
  .add(
    HttpApiEndpoint.get("topics", "/api/topics").addSuccess(Topics).addError(Unavailable).middleware(Admin).annotate(
      OpenApi.Summary,
      "The topics of the saga, with their partitions"
    )
  )
  .add(
    HttpApiEndpoint.get("records", "/api/topics/:topic/records").setPath(path).setUrlParams(Schema.Struct({
      ...wanted,
      offset: Schema.optional(Fields.offset).annotations({ description: "Begin at this offset; needs partition" }),
      from: Schema.optional(Fields.moment).annotations({ description: "Begin at this time" }),
      until: Schema.optional(Fields.moment).annotations({ description: "End at this time" }),
      after: Schema.optional(Schema.String.pipe(Schema.pattern(/^(?:\d{1,6}@\d{1,18})(?:,\d{1,6}@\d{1,18}){0,999}$/)))
        .annotations({ description: "`next` of the answer before" }),
      limit: Fields.smallLimit
    })).addSuccess(Records).addError(BadRequest).addError(NotFound).addError(TooMany).addError(Unavailable)
      .middleware(Admin).annotate(OpenApi.Summary, "Records of a topic by partition, offset, time, key and text")
  )
  .add(
    HttpApiEndpoint.get("recordsLive", "/api/topics/:topic/live").setPath(path).setUrlParams(Schema.Struct(wanted))
      .addSuccess(Fields.events)
      .addError(TooMany).addError(Unavailable).middleware(Admin).annotate(
        OpenApi.Summary,
        "Server-sent events: `records` with new records of a topic, `end` before the server closes the stream"
      )
  )
  .add(
    HttpApiEndpoint.post("writeRecord", "/api/topics/inventory/records").setPayload(Write).addSuccess(Written)
      .addError(BadRequest).addError(NotHere).addError(Unavailable).middleware(Writes)
      .annotate(OpenApi.Summary, "Write an inventory record; on a local stack only")
  )
