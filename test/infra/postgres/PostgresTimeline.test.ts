import { assert, describe, it } from "@effect/vitest"
import { Either } from "effect"
import * as PostgresRoutes from "../../../src/infra/postgres/PostgresRoutes.js"
import * as PostgresTimeline from "../../../src/infra/postgres/PostgresTimeline.js"
import * as PostgresUrl from "../../../src/infra/postgres/PostgresUrl.js"

describe("the timeline of a primary", () => {
  it("a lower one than the highest of its cluster is that of an old primary", () => {
    const meet = (system: string, number: number) => PostgresTimeline.meet({ system, number })
    assert.deepStrictEqual(
      [meet("one", 3), meet("one", 3), meet("one", 4), meet("one", 3), meet("two", 1), meet("one", 4)],
      ["first", "same", "newer", "old", "first", "same"]
    )
    assert.isTrue(PostgresTimeline.isOld({ system: "one", number: 3 }))
    assert.isFalse(PostgresTimeline.isOld({ system: "two", number: 1 }))
    assert.isFalse(PostgresTimeline.isOld({ system: "unknown", number: 1 }))
  })

  it("an old primary is passed over as a whole: not tried in another mode, and the next host is", () => {
    const target = Either.getOrThrow(PostgresUrl.parse("postgres://a:1,b:2/db?target_session_attrs=read-write"))
    const attempts = PostgresRoutes.attemptsOf(target, new Set())
    const next = PostgresRoutes.following(attempts, 0, new PostgresTimeline.OldPrimary({ system: "one", number: 3 }))
    assert.strictEqual(attempts[next!]!.host.host, "b")
  })
})
