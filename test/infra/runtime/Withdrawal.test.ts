import { assert, it } from "@effect/vitest"
import { Duration, Effect, Fiber, Ref, TestClock } from "effect"
import { make as makeHealth } from "../../../src/infra/runtime/Health.js"
import * as Withdrawal from "../../../src/infra/runtime/Withdrawal.js"

it.scoped("ends the work when its server is away for long, and starts it again when the server is back", () =>
  Effect.gen(function*() {
    const health = yield* makeHealth({ parts: { "inventory-consumer": { roles: ["consumer"] } } })
    const part = health.part("inventory-consumer")
    const isAway = yield* Ref.make(false)
    const told: Array<string> = []
    const tell = (what: string) => Effect.sync(() => void told.push(what))
    const consumer = yield* Effect.acquireUseRelease(
      Effect.zipRight(tell("joined"), Effect.sync(part.working)),
      () => Effect.never,
      () => Effect.zipRight(Effect.promise(() => new Promise(setImmediate)), tell("left"))
    ).pipe(
      Withdrawal.around({
        isCutOff: Ref.get(isAway),
        isBack: Effect.map(Ref.get(isAway), (is) => !is),
        after: "15 seconds",
        part,
        problem: { reason: "postgres", why: "left until it is back" }
      }),
      Effect.forkScoped
    )
    const shown = Effect.map(health.known, ({ dependencies }) => dependencies["inventory-consumer"]!)
    const after = (away: boolean, seconds: number) =>
      Effect.zipRight(Ref.set(isAway, away), TestClock.adjust(Duration.seconds(seconds)))

    yield* after(false, 60)
    // short outages, one after the other, are none
    for (let n = 0; n < 3; n++) yield* Effect.zipRight(after(true, 12), after(false, 2))
    assert.deepStrictEqual(told, ["joined"])

    yield* after(true, 17)
    assert.deepStrictEqual(told, ["joined", "left"])
    assert.deepInclude(yield* shown, { state: "waiting", waiting_for: "postgres" })
    yield* after(true, 60)
    assert.deepStrictEqual(told, ["joined", "left"])

    yield* after(false, 1)
    assert.deepStrictEqual(told, ["joined", "left", "joined"])
    assert.isTrue((yield* shown).ok)

    // a stop ends when the member has left
    yield* Fiber.interrupt(consumer)
    assert.deepStrictEqual(told, ["joined", "left", "joined", "left"])
  }))
