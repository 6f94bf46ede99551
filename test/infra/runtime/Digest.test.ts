import { assert, it } from "@effect/vitest"
import { Effect, Exit, Scope, TestClock } from "effect"
import type { Digested } from "../../../src/infra/runtime/Digest.js"
import * as Digest from "../../../src/infra/runtime/Digest.js"

it.scoped("a burst is one line with a count and three examples; later ones are one line a minute, and none is lost", () =>
  Effect.gen(function*() {
    const lines: Array<Digested<number>> = []
    const scope = yield* Scope.make()
    const add = yield* Scope.extend(Digest.make<number>((line) => Effect.sync(() => void lines.push(line))), scope)
    yield* TestClock.adjust("1 minute")
    for (let i = 0; i < 507; i++) {
      add(i)
      yield* TestClock.adjust("5 millis")
    }
    yield* TestClock.adjust("5 seconds")
    assert.deepStrictEqual(lines, [{ count: 507, examples: [0, 1, 2] }])
    for (const each of [1_000, 1_001]) {
      add(each)
      yield* TestClock.adjust("20 seconds")
    }
    assert.lengthOf(lines, 1)
    yield* TestClock.adjust("30 seconds")
    assert.deepStrictEqual(lines[1], { count: 2, examples: [1_000, 1_001] })
    // the end of the scope does not wait
    add(2_000)
    yield* Scope.close(scope, Exit.void)
    assert.deepStrictEqual(lines.slice(2), [{ count: 1, examples: [2_000] }])
  }))
