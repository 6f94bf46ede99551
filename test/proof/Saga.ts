import * as NodeContext from "@effect/platform-node/NodeContext"
import { Clock, Duration, Effect, Fiber, Option, Redacted, Schedule } from "effect"
import { strict as assert } from "node:assert"
import { randomUUID } from "node:crypto"
import * as Report from "../../src/audit/Report.js"
import * as Audit from "../../src/audit/Run.js"
import * as Postgres from "../../src/infra/postgres/Postgres.js"
import * as Calls from "../harness/Calls.js"
import { eventually } from "../harness/Eventually.js"
import * as Program from "../harness/Program.js"
import * as Tables from "../harness/Tables.js"
import * as Topics from "../harness/Topics.js"
import * as World from "../harness/World.js"
import * as Figures from "./Figures.js"

export interface SagaOptions {
  /** Servers of one's own, as a stranger reaches them. Default: the shared ones. */
  readonly servers?: Partial<World.Servers>
  /** What the services are told beside or instead of it: proxies before the servers, a shorter lease. */
  readonly env?: Program.Environment
  /** All servers speak TLS, and calls need a token: the file of their authority, and its content with the token. */
  readonly secured?: Calls.Credentials & { readonly caFile: string }
  /**
   * How many orders begin in a second, at the most. Default: 25, enough for batches, and few enough that an outage of
   * a minute is made good in seconds, and that several worlds can be busy at the same time.
   */
  readonly ordersPerSecond?: number
}

const ordersPerTurn = 5
const callers = 16

const again = Schedule.spaced("20 millis")
/** A client asks again after this. All of them together, for orders that nobody takes meanwhile, must not be the load. */
const patience = Schedule.spaced("250 millis")

/** How strictly the audit judges. */
export type Strict = Partial<Pick<Report.Strictness, "noResends">>

/** A resend is a fault. */
export const noResends: Strict = { noResends: true }

/** The audit's counts. */
export interface Verdict {
  readonly clean: boolean
  readonly drained: boolean
  readonly orders: number
  readonly payment_records: number
  readonly inventory: { readonly malformed: number }
  readonly dead_letters: number
  readonly found: Readonly<Record<string, number>>
  readonly tables: Readonly<Record<string, number>>
}

/**
 * Services in a world of their own, and clients that never give up: they write inventory records (also repeated ones,
 * malformed ones, and such that are not for us), pay two orders of three and refuse the third, until they are told.
 */
export const make = Effect.fnUntraced(function*(
  { env = {}, ordersPerSecond = 25, secured, servers = {} }: SagaOptions = {}
) {
  const turn = Duration.seconds(ordersPerTurn / ordersPerSecond)
  const world = yield* World.make(servers)
  const topics = yield* Topics.make(world.kafkaBrokers, secured?.ca)
  yield* topics.create(world.inventory, world.dlq, world.payment)
  const tables = yield* Tables.make(world.databaseUrl)
  const targets = new Map<string, Effect.Effect.Success<ReturnType<typeof Calls.make>>>()
  /** Calls without an answer yet, by target. */
  const pending = new Map<string, number>()
  const instances = new Set<Program.Services>()

  /**
   * An instance of these parts (none: all). It is killed with the scope. Clients call it at once, also while it starts; with
   * `whenReady` they call it, and this ends, when it is ready. `main` is the file of another version of the program.
   */
  const serve = Effect.fnUntraced(
    function*(
      parts: ReadonlyArray<string> = [],
      more: Program.Environment = {},
      { main, whenReady = false }: { readonly main?: string; readonly whenReady?: boolean } = {}
    ) {
      const program = yield* Program.serve(parts, { ...world.env, ...env, ...more }, main)
      instances.add(program)
      if (whenReady) yield* program.untilReady
      if (parts.length === 0 || parts.includes("grpc")) {
        targets.set(program.grpc, yield* Calls.make(program.grpc, secured))
      }
      const gone = Effect.sync(() => {
        instances.delete(program)
        targets.delete(program.grpc)
      })
      yield* program.ended.pipe(
        Effect.zipRight(gone),
        // also where it is served without interruption: the scope ends it before it ends the program
        Effect.interruptible,
        Effect.forkScoped
      )
      yield* Effect.addFinalizer(() => gone)
      return program
    }
  )

  let orders = 0
  let settled = 0
  let asked = 0
  const answers = new Map<string, number>()
  const answered = (code: string, details = "") =>
    [...answers].reduce((sum, [answer, n]) => answer.startsWith(code) && answer.includes(details) ? sum + n : sum, 0)
  const open: Array<number> = []
  /** No load, or its end. */
  let enough = true
  let written = false

  let partitions: ReadonlyArray<number> = [0, 1, 2, 3]

  /** From now on the clients write to these partitions of topic `inventory`, also what they write again. */
  const writeTo = (chosen: ReadonlyArray<number>) => Effect.sync(() => (partitions = chosen))

  const write = (values: ReadonlyArray<string>) =>
    Effect.suspend(() =>
      topics.writeAll(world.inventory, partitions[orders % partitions.length]!, values.map((value) => ({ value })))
    ).pipe(
      Effect.sandbox,
      Effect.retry(again)
    )

  const reserve = Effect.gen(function*() {
    const ids = Array.from({ length: ordersPerTurn }, () => ++orders)
    const values = ids.map((id) => Topics.reserved(id))
    const strangers = orders % 100 === 0 ? ["no event", Topics.reserved(orders, randomUUID(), "FAILED")] : []
    // a client that does not know whether its records were written writes them again
    yield* write([...values, ...strangers, ...orders % 20 === 0 ? values : []])
    open.push(...ids)
    yield* Effect.sleep(turn)
  })

  /** Asks for an order once, as its client wants it. Answers the code, and details if there are any. */
  const ask = (orderId: number) =>
    Effect.suspend(() => {
      const known = [...targets]
      // in turn, so that an instance that stands still does not keep an order to itself
      const chosen = known[asked++ % Math.max(1, known.length)]
      if (chosen === undefined) return Effect.succeed("nobody")
      const [target, calls] = chosen
      const count = (change: number) => Effect.sync(() => pending.set(target, (pending.get(target) ?? 0) + change))
      return Effect.acquireUseRelease(
        count(1),
        () => orderId % 3 === 0 ? calls.refuse(orderId) : calls.pay(orderId),
        () => count(-1)
      ).pipe(Effect.map(({ code, details }) => details === "" ? code : `${code}: ${details}`))
    }).pipe(Effect.tap((code) => answers.set(code, (answers.get(code) ?? 0) + 1)))

  /** Takes an instance from the clients, as a load balancer does before it ends. Ends when its last call is answered. */
  const withdraw = ({ grpc }: Program.Services) =>
    Effect.suspend(() => {
      targets.delete(grpc)
      return Effect.sync(() => assert.strictEqual(pending.get(grpc) ?? 0, 0, "calls without an answer")).pipe(
        eventually()
      )
    })

  /** Asks for the opposite of what the client of an order wants. */
  const contrary = (orderId: number) =>
    Effect.suspend(() => {
      const [chosen] = targets.values()
      return orderId % 3 === 0 ? chosen!.pay(orderId) : chosen!.refuse(orderId)
    })

  /** Begins an order of its own, and ends when its payment can be settled. */
  const reserved = Effect.fnUntraced(function*(orderId: number) {
    yield* topics.write(world.inventory, { value: Topics.reserved(orderId) })
    yield* Effect.tap(tables.payments(orderId), (payments) => assert.strictEqual(payments.length, 1)).pipe(eventually())
  })

  const figures = Figures.make(env["OUTBOX_DELIVERY"] ?? "at-least-once")

  const settle = (orderId: number) =>
    ask(orderId).pipe(
      Effect.repeat({ schedule: patience, until: (code) => code === "OK" }),
      Effect.tap(() => ++settled),
      Effect.zipLeft(figures.settled),
      Effect.onInterrupt(() => Effect.sync(() => open.push(orderId)))
    )

  const caller = Effect.suspend(() => {
    const orderId = open.shift()
    return orderId === undefined ? Effect.sleep(turn) : settle(orderId)
  })

  /** Begins the load. It goes on until `judge`, or the end of the scope. */
  const load = Effect.gen(function*() {
    yield* figures.loaded
    enough = false
    written = false
    // asked to end rather than interrupted: nobody forgets what was written
    const writing = yield* Effect.forkScoped(
      Effect.ensuring(
        Effect.whileLoop({ while: () => !enough, body: () => reserve, step: () => {} }),
        // what is being written when it is enough is also to be settled
        Effect.sync(() => (written = true))
      )
    )
    const calling = yield* Effect.forkScoped(Effect.all(
      Array.from(
        { length: callers },
        () => Effect.whileLoop({ while: () => !written || open.length > 0, body: () => caller, step: () => {} })
      ),
      { concurrency: "unbounded", discard: true }
    ))
    return Fiber.join(writing).pipe(Effect.zipRight(Fiber.join(calling)))
  })

  /** Ends when so many orders more were settled: the services are at work. */
  const more = (count = 25) =>
    Effect.suspend(() => {
      const goal = settled + count
      return Effect.sync(() => assert.ok(settled >= goal, `${goal - settled} orders to go`)).pipe(
        eventually("90 seconds")
      )
    })

  /** Notes how long a repair took that began then: until the next order is settled (under load), and every instance is ready. */
  const recovered = Effect.fnUntraced(function*(began: number) {
    if (!enough) yield* more(1)
    yield* Effect.forEach(instances, (instance) => instance.untilReady, { concurrency: "unbounded", discard: true })
    yield* figures.recovered(began)
  })

  /** The audit of all that ever happened in this world, once everything is drained. */
  const look = Effect.fnUntraced(function*(strict: Strict = {}) {
    const audited = yield* Audit.run({
      kafka: {
        brokers: world.kafkaBrokers.split(","),
        clientId: "audit",
        ...(secured === undefined ? {} : { security: { tls: { files: { prefix: "KAFKA_TLS", ca: secured.caFile } } } })
      },
      groupId: world.group,
      inventoryTopic: world.inventory,
      dlqTopic: world.dlq,
      paymentTopic: world.payment,
      acceptStatuses: ["COMPLETED"],
      retention: Duration.days(7),
      since: Option.none(),
      wait: Option.some(Duration.seconds(45)),
      examples: 5,
      onProgress: () => Effect.void
    }).pipe(Effect.provide([
      Postgres.layer({ url: Redacted.make(world.databaseUrl), maxConnections: 2, connectTimeoutMillis: 20_000 }),
      NodeContext.layer
    ]))
    const documents = Report.documents(audited, { noResends: false, waited: true, ...strict }, world)
    const verdict = documents.at(-1) as unknown as Verdict
    yield* figures.audited({
      records: verdict.payment_records,
      resent: verdict.found["resend"] ?? 0,
      unavailable: answered("UNAVAILABLE")
    })
    const faults = documents.slice(0, -1).filter(({ fault }) => fault === true).map((fault) =>
      JSON.stringify(fault, (_, value) => typeof value === "bigint" ? String(value) : value)
    )
    return { verdict, faults } as const
  }, Effect.scoped)

  /** The same, and it must be clean. */
  const audit = Effect.fnUntraced(function*(strict?: Strict) {
    const { faults, verdict } = yield* look(strict)
    assert.ok(verdict.clean, `not clean: ${JSON.stringify(verdict)}\n${faults.slice(0, 5).join("\n")}`)
    return verdict
  })

  /** Ends the load: everything that was begun is settled. */
  const finish = Effect.fnUntraced(function*(running: Effect.Effect<unknown, unknown>) {
    enough = true
    yield* Effect.timeout(running, "90 seconds")
  })

  /** How many orders have not ended as their clients asked. */
  const unsettled = Effect.gen(function*() {
    const asAsked = "CASE WHEN order_id % 3 = 0 THEN 'FAILED' ELSE 'COMPLETED' END::payment_status"
    return orders - (yield* tables.count(`payment WHERE order_id <= ${orders} AND status = ${asAsked}`))
  })

  /** Ends the load, and judges: every order is settled as it was asked, and the audit is clean. */
  const judge = Effect.fnUntraced(
    function*(running: Effect.Effect<unknown, unknown>, strict?: Strict) {
      yield* finish(running)
      const verdict = yield* audit(strict)
      assert.strictEqual(yield* unsettled, 0, "not settled as asked")
      return verdict
    }
  )

  /** Load before, during and after something that happens, then the verdict. */
  const outlives = Effect.fnUntraced(
    function*<A, E, R>(happening: Effect.Effect<A, E, R>, strict?: Strict) {
      const running = yield* load
      yield* more()
      const result = yield* happening
      yield* more()
      return [yield* judge(running, strict), result] as const
    },
    Effect.scoped
  )

  return {
    world,
    topics,
    tables,
    serve,
    withdraw,
    writeTo,
    reserved,
    ask,
    contrary,
    load,
    more,
    recovered,
    finish,
    unsettled,
    judge,
    audit,
    look,
    outlives,
    /** Orders that have begun: their ids are 1 up to this. */
    begun: () => orders,
    settled: () => settled,
    /** How many calls were answered, by code and details. */
    answers: answers as ReadonlyMap<string, number>,
    /** How many calls were answered with this code, and details that contain this. */
    answered
  } as const
})

export type Saga = Effect.Effect.Success<ReturnType<typeof make>>

/** Repairs something, and notes for each of these worlds how long it takes until it works again. */
export const repair = Effect.fnUntraced(function*<A, E, R>(
  worlds: ReadonlyArray<Saga>,
  repairing: Effect.Effect<A, E, R>
) {
  const began = yield* Clock.currentTimeMillis
  const result = yield* repairing
  yield* Effect.forEach(worlds, (world) => world.recovered(began), { concurrency: "unbounded", discard: true })
  return result
})
