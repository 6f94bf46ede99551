import { Args, Command, HelpDoc, Options } from "@effect/cli"
import { FileSystem } from "@effect/platform"
import { Clock, Effect, Either, Layer, Option } from "effect"
import { kafkaClient } from "../Config.js"
import type { Parse } from "../infra/runtime/Setting.js"
import { integer, text } from "../infra/runtime/Setting.js"
import type { LetterPlan } from "../repair/DeadLetterBox.js"
import { DeadLetterBox } from "../repair/DeadLetterBox.js"
import { documentOf } from "../repair/Filed.js"
import type { Place } from "../repair/Letter.js"
import * as Letters from "../repair/Letter.js"
import * as Change from "./Change.js"
import * as Database from "./Database.js"
import * as Editor from "./Editor.js"
import { UsageError } from "./Failure.js"
import { option, time } from "./Flags.js"
import { json, print, waitingFor, withSettings } from "./Output.js"
import * as Prepare from "./Prepare.js"
import * as Words from "./RepairWords.js"
import { kafkaOptions } from "./Services.js"

const used = [
  ...Database.used,
  ...kafkaClient,
  "inventoryTopic",
  "inventoryDlqTopic",
  "inventoryAcceptStatuses"
] as const

/** Runs a command on the dead-letter topic `dlqTopic`. */
const onBox = <A, E, R>(work: (box: DeadLetterBox, dlqTopic: string) => Effect.Effect<A, E, R>) =>
  withSettings(used, (config) =>
    Effect.gen(function*() {
      yield* Prepare.migrated
      return yield* work(yield* DeadLetterBox, config.inventoryDlqTopic)
    }).pipe(Effect.provide(
      DeadLetterBox.Default({
        kafka: kafkaOptions(config),
        dlqTopic: config.inventoryDlqTopic,
        inventoryTopic: config.inventoryTopic,
        acceptStatuses: config.inventoryAcceptStatuses
      }).pipe(Layer.provideMerge(Database.layer(config, 2)))
    )))

/** Parses `3@1234`, or with the topic before it: `inventory.dlq/3@1234`. */
export const parsePlace: Parse<Place> = (text) => {
  const [, partition, offset] = /^(?:[^\s/]+\/)?(\d{1,6})@(\d{1,18})$/.exec(text) ?? []
  return offset === undefined
    ? Either.left("is not <partition>@<offset>, as payments dead-letters list shows it")
    : Either.right({ partition: Number(partition), offset })
}

const placeText = Args.text({ name: "place" }).pipe(
  Args.withDescription("Position of the letter: <partition>@<offset>")
)

const toPlace = (text: string) =>
  Either.mapLeft(parsePlace(text), (problem) => HelpDoc.p(`place ${problem}: ${JSON.stringify(text)}`))

const error = option("error", text, "text").pipe(
  Options.withDescription("Only letters whose reason contains this text"),
  Options.optional
)

/** What a list keeps of a letter: its value may be a megabyte. */
type Listed = ReturnType<typeof documentOf>

const replayed = ({ replayed_at, replayed_by, replays }: Listed) =>
  replayed_at === null
    ? ""
    : `replayed ${replays === 1 ? "" : `${replays} times, last `}${Words.iso(replayed_at)} by ${replayed_by}`

const list = Command.make("list", {
  error,
  open: Options.boolean("open").pipe(Options.withDescription("Only letters that were not replayed yet")),
  since: time("since", "Only letters written at this time or later"),
  limit: option("limit", integer(1, 1_000_000), "number").pipe(
    Options.withDefault(20),
    Options.withDescription("Number of letters shown; 20 by default")
  ),
  json
}, (flags) =>
  onBox((box, dlqTopic) =>
    Effect.gen(function*() {
      const now = yield* Clock.currentTimeMillis
      const shown: Array<Listed> = []
      const reasons = new Map<string, { count: number; open: number }>()
      let all = 0
      yield* box.scan({
        error: Option.getOrUndefined(flags.error),
        since: Option.getOrUndefined(Option.map(flags.since, (since) => since(now)))
      }, (filed) =>
        Effect.sync(() => {
          for (const one of filed) {
            if (flags.open && one.replays.count > 0) continue
            all++
            const known = reasons.get(one.letter.reason) ?? { count: 0, open: 0 }
            reasons.set(one.letter.reason, {
              count: known.count + 1,
              open: known.open + (one.replays.count === 0 ? 1 : 0)
            })
            if (shown.length < flags.limit) shown.push(documentOf(one))
          }
        })).pipe(waitingFor(`reading topic ${dlqTopic}`))
      const groups = Array.from(reasons, ([reason, counts]) => ({ reason, ...counts })).sort((a, b) =>
        b.count - a.count
      )
      if (flags.json) {
        yield* Effect.forEach(groups, (group) => print(true, group, ""), { discard: true })
        return yield* Effect.forEach(shown, (one) => print(true, one, ""), { discard: true })
      }
      shown.sort((a, b) => (a.at?.getTime() ?? 0) - (b.at?.getTime() ?? 0))
      const lines = all === 0 ? [`no dead letters on topic ${dlqTopic}`] : [
        ...Words.table(groups.map(({ count, open, reason }) => [String(count), `${open} not replayed`, reason])),
        "",
        ...Words.table(shown.map((one) => [
          Letters.show(one),
          Words.iso(one.at ?? undefined),
          one.original,
          one.reason,
          ...(one.cut.length === 0 ? [""] : [`cut: ${one.cut.join(",")}`]),
          replayed(one)
        ])),
        ...(all > shown.length ? [`and ${all - shown.length} more (--limit)`] : []),
        "",
        `${Words.counted(all, "dead letter")}. payments dead-letters show <place> shows one`
      ]
      yield* print(false, {}, lines.join("\n"))
    })
  )).pipe(Command.withDescription("Show the dead letters: counts by reason, then the letters, oldest first"))

const hexOf = (bytes: Buffer) =>
  Array.from(
    { length: Math.ceil(bytes.length / 32) },
    (_, i) =>
      `  ${String(i * 32).padStart(6)}  ${
        bytes.subarray(i * 32, i * 32 + 32).toString("hex").replaceAll(/(.{8})/g, "$1 ")
      }`.trimEnd()
  )
    .join("\n")

const bytesOf = (bytes: Buffer | null, hex: boolean) => {
  if (bytes === null) return "null"
  const text = hex ? undefined : Letters.textOf(bytes)
  return text ?? `${bytes.length} bytes\n${hexOf(bytes)}`
}

const show = Command.make("show", {
  place: placeText.pipe(Args.mapEffect(toPlace)),
  hex: Options.boolean("hex").pipe(Options.withDescription("Show key and value in hexadecimal digits")),
  json
}, ({ hex, json, place }) =>
  onBox((box, dlqTopic) =>
    Effect.gen(function*() {
      const [filed] = yield* box.at([place]).pipe(waitingFor(`reading topic ${dlqTopic}`))
      const { letter } = filed!
      const listed = documentOf(filed!)
      const encoded = (bytes: Buffer | null) =>
        bytes === null ? null : (hex ? undefined : Letters.textOf(bytes)) ?? bytes.toString("hex")
      yield* print(
        json,
        {
          ...listed,
          headers: letter.headers,
          key: encoded(letter.key),
          value: encoded(letter.value),
          value_is_text: letter.value !== null && !hex && Letters.textOf(letter.value) !== undefined
        },
        [
          `letter    ${dlqTopic}/${Letters.show(letter)}, written ${Words.iso(listed.at ?? undefined)}`,
          `reason    ${letter.reason}`,
          `original  ${letter.original}`,
          ...(letter.cut.length === 0 ? [] : [`cut       ${letter.cut.join(", ")}: this is not the whole record`]),
          ...(listed.replays === 0 ? [] : [`replays   ${replayed(listed)}`]),
          ...Object.entries(letter.headers).map(([name, value]) => `header    ${name}: ${JSON.stringify(value)}`),
          `key       ${bytesOf(letter.key, hex)}`,
          `value     ${bytesOf(letter.value, hex)}`
        ].join("\n")
      )
    })
  )).pipe(Command.withDescription("Show a dead letter: reason, original position, headers, key and value"))

/** The most letters of one replay by reason. */
const mostLetters = 50_000

const previewOf = ({ letters }: LetterPlan) =>
  [
    ...Words.table(
      letters.slice(0, 10).map(({ effect, letter, mended, orderId }) => [
        Letters.show(letter),
        mended ? "corrected" : "as it was",
        orderId === undefined ? "no order" : `order ${orderId}`,
        effect
      ])
    ),
    ...(letters.length > 10 ? [`and ${letters.length - 10} more`] : [])
  ].join("\n")

const replay = Command.make("replay", {
  place: placeText.pipe(Args.repeated, Args.mapEffect((texts) => Either.all(texts.map(toPlace)))),
  error,
  all: Options.boolean("all").pipe(Options.withDescription("All letters that were not replayed yet")),
  edit: Options.boolean("edit").pipe(Options.withDescription("Mend the value of one letter in $EDITOR")),
  valueFile: Options.file("value-file", { exists: "yes" }).pipe(
    Options.withDescription("Write the content of this file as the value of one letter"),
    Options.optional
  ),
  again: Options.boolean("again").pipe(Options.withDescription("Also letters that were replayed before")),
  anyway: Options.boolean("anyway").pipe(
    Options.withDescription("Also values that would become dead letters again, or that are ignored")
  ),
  ...Change.flags
}, (flags) =>
  Effect.gen(function*() {
    const mends = flags.edit || Option.isSome(flags.valueFile)
    const ways = [flags.place.length > 0, Option.isSome(flags.error) || flags.all].filter((way) => way).length
    if (ways !== 1) {
      return yield* new UsageError({ problem: "which letters? Give their places, or --error, or --all" })
    }
    if (mends && (flags.place.length !== 1 || (flags.edit && Option.isSome(flags.valueFile)))) {
      return yield* new UsageError({ problem: "--edit and --value-file mend the value of one letter: give its place" })
    }
    yield* onBox((box, dlqTopic) =>
      Effect.gen(function*() {
        const { filed, more } = yield* (flags.place.length > 0
          ? Effect.map(box.at(flags.place), (filed) => ({ filed, more: false }))
          : box.choose({ error: Option.getOrUndefined(flags.error), again: flags.again, letters: mostLetters }))
          .pipe(waitingFor(`reading topic ${dlqTopic}`))
        const fs = yield* FileSystem.FileSystem
        const value = Option.isSome(flags.valueFile)
          ? Buffer.from(yield* fs.readFile(flags.valueFile.value))
          : flags.edit
          ? yield* Editor.edit(filed[0]!.letter.value ?? Buffer.alloc(0))
          : undefined
        const plan = yield* box.plan(filed, { value, again: flags.again, anyway: flags.anyway })
        yield* Change.make(flags, {
          what: `replay ${Words.counted(plan.letters.length, "dead letter")}`,
          count: plan.letters.length,
          preview: previewOf(plan),
          leftOut: plan.leftOut,
          apply: (by, pacing) => box.replay(plan, by, pacing),
          after: "The consumer reads the records like new ones; payments order <order_id> follows one." +
            (more ? " There are more: run the command again." : "")
        })
      })
    )
  })).pipe(
    Command.withDescription("Write dead letters to the inventory topic again, as they were or with a corrected value")
  )

/** `payments dead-letters`. */
export const command = Command.make("dead-letters").pipe(
  Command.withDescription("Show and replay inventory records that could not be handled"),
  Command.withSubcommands([list, show, replay])
)
