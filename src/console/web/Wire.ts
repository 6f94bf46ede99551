import type * as DeadLetters from "../../admin/api/DeadLetters.js"
import type * as Doctor from "../../admin/api/Doctor.js"
import type * as Fields from "../../admin/api/Fields.js"
import type * as Operations from "../../admin/api/Operations.js"
import type * as OrdersApi from "../../admin/api/Orders.js"
import type * as Outbox from "../../admin/api/Outbox.js"
import type * as SagaApi from "../../admin/api/Saga.js"
import type * as SessionApi from "../../admin/api/Session.js"
import type * as TopicsApi from "../../admin/api/Topics.js"
import type * as Facts from "../../story/Facts.js"

// The answers of the API as they are in JSON. Types only: the schemas themselves would be two thirds of the first load.

export type Session = typeof SessionApi.Session.Encoded
export type SignIn = typeof SessionApi.SignIn.Encoded
export type Sample = typeof SagaApi.Sample.Encoded
export type PartState = typeof SagaApi.PartState.Encoded
export type Standing = typeof SagaApi.Standing.Encoded
export type Saga = typeof SagaApi.Saga.Encoded
export type SagaWithHistory = typeof SagaApi.SagaWithHistory.Encoded
export type Order = typeof OrdersApi.Order.Encoded
export type Orders = typeof OrdersApi.Orders.Encoded
export type Settle = typeof OrdersApi.Settle.Encoded
export type Settled = typeof OrdersApi.Settled.Encoded
export type Event = typeof Outbox.Event.Encoded
export type EventState = Event["state"]
export type Events = typeof Outbox.Events.Encoded
export type Repair = typeof Outbox.Repair.Encoded
export type Replay = typeof Outbox.Replay.Encoded
export type Changed = typeof Fields.Changed.Encoded
export type Bytes = typeof Fields.Bytes.Encoded
export type Record = typeof Fields.Record.Encoded
export type LetterReplay = typeof DeadLetters.LetterReplay.Encoded
export type Operation = (typeof Operations.Operations.Encoded)["operations"][number]
export type Log = typeof Operations.Operations.Encoded
export type Topics = typeof TopicsApi.Topics.Encoded
export type TopicName = TopicsApi.TopicName
export type Records = typeof TopicsApi.Records.Encoded
export type Write = typeof TopicsApi.Write.Encoded
export type Written = typeof TopicsApi.Written.Encoded
export type Findings = typeof Doctor.Findings.Encoded

/** A value of the program as it is in JSON. */
type Json<A> = A extends Date | bigint ? string
  : A extends ReadonlyArray<infer Item> ? ReadonlyArray<Json<Item>>
  : A extends object ? { readonly [Name in keyof A]: Json<A[Name]> }
  : A

/** How far a topic was searched. JSON leaves the fields out that are not known. */
export type Searched = { readonly [Name in keyof Json<Facts.Searched>]?: Json<Facts.Searched>[Name] } & {
  readonly topic: string
}

/** The story of an order, as `payments order --json` prints it, with its records whole. */
export interface Story {
  readonly order_id: string
  readonly state: string
  readonly says: string
  readonly command: string | null
  readonly records: ReadonlyArray<Json<Facts.RecordFact>>
  readonly dead_letters: ReadonlyArray<{
    readonly partition: number
    readonly offset: string
    readonly reason: string
    readonly original: string
    readonly replays: number
    readonly replayed_at: string | null
  }>
  readonly payment: Json<Facts.PaymentFact> | null
  readonly events: ReadonlyArray<
    Json<Facts.EventFact> & {
      readonly records: ReadonlyArray<
        { readonly topic: string; readonly partition: number; readonly offset: string; readonly at: string | null }
      >
      readonly behind: ReadonlyArray<string>
      readonly skipped_by: string | null
    }
  >
  readonly other_records: ReadonlyArray<Json<Facts.AnnouncedFact>>
  readonly operations: ReadonlyArray<Operation>
  readonly trace_ids: ReadonlyArray<string>
  readonly searched: { readonly [Name in keyof Facts.Story["searched"]]: Searched }
  readonly raw: ReadonlyArray<Record>
}

/** A dead letter in a list. */
export interface Letter {
  readonly partition: number
  readonly offset: string
  readonly at: string | null
  readonly reason: string
  readonly original: string
  readonly value_bytes: number | null
  readonly cut: ReadonlyArray<string>
  readonly replays: number
  readonly replayed_at: string | null
  readonly replayed_by: string | null
}

/** The newest dead letters. */
export interface Letters {
  readonly letters: ReadonlyArray<Letter>
  /** Letters that match: all of them without a filter, otherwise those among the letters that were read. */
  readonly count: number
  /** Letters that were read, and letters on the topic. */
  readonly read: number
  readonly total: number
}

/** A dead letter with its contents. */
export interface WholeLetter extends Letter {
  readonly headers: { readonly [name: string]: string }
  readonly key: Bytes | null
  readonly value: Bytes | null
}

export interface Blocked {
  readonly total: { readonly dead: number; readonly behind: number }
  readonly events: ReadonlyArray<{
    readonly id: string
    readonly order_id: string | null
    readonly says: string | null
    readonly attempts: number
    readonly last_error: string | null
    readonly created_at: string
    readonly behind: number
    readonly behind_since: string | null
  }>
}
