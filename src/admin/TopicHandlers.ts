import { HttpApiBuilder, HttpServerRequest } from "@effect/platform"
import { Chunk, Effect, Option, Schedule } from "effect"
import { randomUUID } from "node:crypto"
import type { Sources } from "../audit/Sources.js"
import * as KafkaOffsets from "../infra/kafka/KafkaOffsets.js"
import * as KafkaProducer from "../infra/kafka/KafkaProducer.js"
import * as KafkaTail from "../infra/kafka/KafkaTail.js"
import * as Letters from "../repair/Letter.js"
import { Operations } from "../repair/Operations.js"
import type { Access } from "./Access.js"
import { Api } from "./Api.js"
import { BadRequest, NotFound, NotHere, TooMany } from "./api/Refusals.js"
import type { TopicName } from "./api/Topics.js"
import { operatorOf, unavailable } from "./Changes.js"
import { inList, recordOf } from "./Records.js"
import type { Reader, Streams } from "./Streams.js"
import { event } from "./Streams.js"
import * as Browse from "./topics/Browse.js"

/** Searches at the same time; one more waits for a moment and is refused then. */
const searches = 2
const patience = Schedule.intersect(Schedule.spaced("100 millis"), Schedule.recurs(20))

/** The most records of one event, and the pause between two: a page cannot show more. */
const perEvent = 100
const pause = "500 millis"

/** Answers `/api/topics…`. */
export const layer = (sources: Sources, access: Access, streams: Streams) =>
  HttpApiBuilder.group(Api, "topics", (handlers) =>
    Effect.gen(function*() {
      const operations = yield* Operations
      const { kafka } = sources
      const names: Readonly<Record<TopicName, string>> = {
        "inventory": sources.inventoryTopic,
        "payment": sources.paymentTopic,
        "dead-letters": sources.dlqTopic
      }
      const slots = yield* Effect.makeSemaphore(searches)

      const describe = (name: TopicName) =>
        Effect.match(KafkaOffsets.spans(kafka, names[name], undefined), {
          onFailure: ({ message }) => ({ name, topic: names[name], partitions: [], problem: message }),
          onSuccess: (spans) => ({
            name,
            topic: names[name],
            partitions: [...spans].sort((a, b) => a.partition - b.partition).map(({ end, partition, start }) => ({
              partition,
              start: String(start),
              end: String(end)
            })),
            problem: null
          })
        })

      const follow = (topic: string, wanted: Browse.Wanted) => (reader: Reader) =>
        Effect.gen(function*() {
          const isWanted = Browse.matching(wanted)
          const records = yield* KafkaTail.open({ ...kafka, topic, from: "end" })
          reader.send(event("ready", {}))
          return yield* Effect.forever(Effect.gen(function*() {
            const [taken] = yield* records.takeAll
            const all = Chunk.toReadonlyArray(taken).filter((record) => isWanted(record.partition, record))
            if (all.length === 0) return
            const shown = all.slice(0, perEvent).map((record) => recordOf(topic, record.partition, record, inList))
            reader.send(event("records", { records: shown, left_out: all.length - shown.length }))
            yield* Effect.sleep(pause)
          }))
        }).pipe(
          Effect.catchAll((error) => Effect.sync(() => reader.send(event("problem", { message: error.message })))),
          Effect.scoped
        )

      return handlers
        .handle("topics", () =>
          Effect.map(
            Effect.all([describe("inventory"), describe("payment"), describe("dead-letters")], {
              concurrency: "unbounded"
            }),
            (topics) => ({ topics })
          ))
        .handle("records", ({ path, urlParams }) =>
          Effect.gen(function*() {
            const { from, offset, until, ...rest } = urlParams
            if (offset !== undefined && rest.partition === undefined) {
              return yield* new BadRequest({ message: "offset needs a partition" })
            }
            const search = Browse.search(kafka, names[path.topic], {
              partition: rest.partition,
              key: rest.key,
              contains: rest.contains,
              after: rest.after,
              limit: rest.limit,
              offset: offset === undefined ? undefined : Number(offset),
              from: from?.getTime(),
              until: until?.getTime()
            })
            return yield* slots.withPermitsIfAvailable(1)(search).pipe(
              Effect.flatMap((result) =>
                Option.isSome(result) ? Effect.succeed(result.value) : Effect.fail("busy" as const)
              ),
              Effect.retry({ while: (error) => error === "busy", schedule: patience })
            )
          }).pipe(Effect.mapError((error) =>
            error === "busy"
              ? new TooMany({ message: `${searches} searches run: wait for one of them`, retry_after_seconds: 2 })
              : error._tag === "BadRequest"
              ? error
              : error._tag === "KafkaUnavailable"
              ? unavailable(error)
              : new NotFound({ message: error.message })
          )))
        .handleRaw("recordsLive", ({ path, urlParams }) =>
          Effect.gen(function*() {
            const topic = names[path.topic]
            yield* Effect.mapError(KafkaOffsets.spans(kafka, topic, undefined), unavailable)
            const request = yield* HttpServerRequest.HttpServerRequest
            return yield* streams.open(access.stillMayRead(request), follow(topic, urlParams))
          }))
        .handle("writeRecord", ({ payload }) =>
          Effect.gen(function*() {
            const { key, reason, value } = payload
            if (!access.isLocal) {
              return yield* new NotHere({
                message: "inventory records are written here by the service that reserves stock; " +
                  "the console writes them on a local stack only (npm start)"
              })
            }
            const operator = yield* operatorOf(payload.operator)
            const topic = sources.inventoryTopic
            const bytes = Buffer.from(value)
            const producer = yield* KafkaProducer.make(kafka)
            const [written] = yield* producer.send([{ topic, key: key ?? null, value: bytes }], () => true)
            const place = { partition: written!.partition, offset: written!.offset }
            const outcome = Letters.outcome(bytes, new Set(sources.acceptStatuses))
            const run = randomUUID()
            yield* operations.note({ run, operator, reason }, {
              action: "inventory write",
              orderId: outcome._tag === "Creates" ? outcome.orderId : undefined,
              place: `${topic}/${Letters.show(place)} ${run}`,
              before: {},
              after: { value: Letters.noted(bytes) }
            })
            return { topic, ...place }
          }).pipe(
            Effect.scoped,
            Effect.mapError((error) =>
              error._tag === "BadRequest" || error._tag === "NotHere"
                ? error
                : unavailable({ message: "message" in error ? error.message : String(error) })
            )
          ))
    }))
