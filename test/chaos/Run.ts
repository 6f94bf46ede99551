import { Clock, Console, Data, Duration, Effect, Exit } from "effect"
import { strict as assert } from "node:assert"
import { eventually } from "../harness/Eventually.js"
import * as Saga from "../proof/Saga.js"
import type { Kind } from "./Faults.js"
import { faults } from "./Faults.js"
import type { Ground } from "./Ground.js"
import * as GroundOf from "./Ground.js"
import * as Plan from "./Plan.js"
import * as Resends from "./Resends.js"
import type { Outcome } from "./Summary.js"
import * as Summary from "./Summary.js"

export interface ChaosOptions {
  readonly minutes: number
  readonly seed: number
  /** The kinds of fault that are mixed. */
  readonly kinds: ReadonlyArray<Kind>
  readonly instances: number
  readonly ordersPerSecond: number
  readonly delivery: GroundOf.Delivery
  /** Every connection is encrypted and authenticated. */
  readonly tls: boolean
  /** How long the system may take to work again after a fault. */
  readonly recovery: Duration.Duration
}

/** Something was lost, doubled, out of order, or did not come back. */
export class NotClean extends Data.TaggedError("NotClean")<{ readonly wrong: ReadonlyArray<string> }> {
  override get message() {
    return `not clean: ${this.wrong.join("\n")}`
  }
}

/** Orders that are to go through after a fault: as many as are written in one round over all partitions. */
const witnesses = 20

/** Ends when orders that begin from now on are paid, and the broker has acknowledged both events of each. */
const working = ({ saga }: Ground, within: Duration.Duration) =>
  Effect.suspend(() => {
    const from = saga.begun()
    return saga.tables.count(`event WHERE status = 'DONE' AND order_id BETWEEN ${from + 1} AND ${from + witnesses}`)
      .pipe(
        Effect.tap((done) => assert.strictEqual(done, 2 * witnesses)),
        eventually(within, "50 millis"),
        Effect.exit
      )
  })

const secondsSince = (start: number) => Effect.map(Clock.currentTimeMillis, (now) => (now - start) / 1_000)

/** Faults one after the other, until the time is over. */
const torment = Effect.fnUntraced(function*(ground: Ground, options: ChaosOptions) {
  const { kinds, recovery, seed } = options
  const plan = Plan.make(seed, kinds)
  const start = yield* Clock.currentTimeMillis
  const outcomes: Array<Omit<Outcome, "resends"> & { readonly from: number }> = []
  for (;;) {
    const { kind, pauseMillis, pick, seconds } = yield* plan
    yield* Effect.sleep(Duration.millis(pauseMillis))
    const began = yield* secondsSince(start)
    if (began >= options.minutes * 60) return outcomes
    yield* faults[kind](ground, { seconds, pick })
    const ended = yield* secondsSince(start)
    const works = yield* working(ground, recovery)
    const took = Exit.isSuccess(works) ? (yield* secondsSince(start)) - ended : undefined
    outcomes.push({ kind, from: start + began * 1_000, recovery: took })
    yield* Console.log(
      `${began.toFixed(1).padStart(7)} s  ${kind.padEnd(38)}${(ended - began).toFixed(1).padStart(6)} s   ` +
        `${
          took === undefined
            ? `still not working after ${Duration.format(recovery)}`
            : `${took.toFixed(2)} s to recover`
        }` +
        `   ${ground.saga.settled()} orders`
    )
    if (took === undefined) return outcomes
  }
})

/**
 * Servers and services of our own, clients that never give up, and faults mixed at random under that load. At the end
 * everything drains, and the audit judges. Fails with `NotClean`.
 */
export const run = Effect.fnUntraced(function*(options: ChaosOptions) {
  yield* Console.log(
    `chaos for ${options.minutes} min with seed ${options.seed}: ${options.instances} instances, ` +
      `${options.delivery}, ${options.ordersPerSecond} orders/s at the most` +
      (options.tls ? ", everything encrypted" : "")
  )
  const ground = yield* GroundOf.make(options)
  const { saga } = ground
  const running = yield* saga.load
  yield* saga.more()
  const suffered = yield* torment(ground, options)

  yield* Console.log("draining, and the audit")
  const wrong = suffered.filter(({ recovery }) => recovery === undefined).map(({ kind }) => `no recovery from: ${kind}`)
  const finished = yield* Effect.exit(saga.finish(running))
  if (Exit.isFailure(finished)) wrong.push("orders were still not settled 90 s after the last fault")
  const { faults: found, verdict } = yield* saga.look(options.delivery === "exactly-once" ? Saga.noResends : {})
  if (!verdict.clean) wrong.push(...found.slice(0, 5), JSON.stringify(verdict))
  const unsettled = yield* saga.unsettled
  if (unsettled !== 0) wrong.push(`${unsettled} orders not settled as asked`)
  yield* Effect.forEach([...ground.instances], ground.retire, { concurrency: "unbounded", discard: true })
  wrong.push(...ground.deserted)

  // a transaction that was aborted left records too: what is counted there is not what a reader sees
  const resent = options.delivery === "at-least-once" ? yield* Resends.times(saga.topics, saga.world.payment) : []
  const outcomes = suffered.map(({ from, ...outcome }, i): Outcome => {
    const until = suffered[i + 1]?.from ?? Infinity
    return { ...outcome, resends: resent.filter((time) => time >= from && time < until).length }
  })
  yield* Console.log(
    `\n${Summary.table(outcomes)}\n\n` +
      `seed ${options.seed}: ${outcomes.length} faults, ${saga.begun()} orders, ${verdict.payment_records} records, ` +
      `${verdict.found["resend"] ?? 0} resends: ${wrong.length === 0 ? "clean" : "NOT CLEAN"}`
  )
  if (wrong.length > 0) return yield* new NotClean({ wrong })
}, Effect.scoped)
