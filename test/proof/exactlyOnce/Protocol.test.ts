import { assert, describe, expect, it } from "@effect/vitest"
import { Effect, FastCheck as fc } from "effect"
import { bound } from "../Bounds.js"
import type { Counterexample, Graph } from "./Explore.js"
import { explore, together } from "./Explore.js"
import type { Act, Rules, Step } from "./Protocol.js"
import { complete, mayChange, mayRelease, play, program, protocol, start, story, wrong } from "./Protocol.js"
import { schedules } from "./Schedule.js"

const sound = (found: Graph | Counterexample): Graph => {
  if ("wrong" in found) assert.fail(`${found.story} => ${found.wrong}`)
  return found
}

/** What changes something where it arrives. */
const changing = program.filter((act) => act !== "read")

describe("P4: every interleaving, with any number of crashes, lost requests and lost answers", () => {
  it("two relays, two shards, three events", async () => {
    const states = together(
      sound(await explore(protocol, start([1, 1], 2))),
      sound(await explore(protocol, start([2], 2)))
    )
    assert.strictEqual(states, 1_435_552)
  })

  it("two relays, a shard of two orders, batches of one and of two", async () => {
    assert.strictEqual(sound(await explore(protocol, start([1, 2, 1], 2, 2))).states, 1_808)
    assert.strictEqual(sound(await explore(protocol, start([1, 2, 1], 2, 1))).states, 3_458)
  })

  it("three relays, an event", async () =>
    assert.strictEqual(sound(await explore(protocol, start([1], 3))).states, 15_770))

  // A change waits until every shard is at rest in the same hands. What it has to see to is the same in each of them: that
  // nothing is leased, and that no producer of the old name can commit, whatever its relay believes.
  it("their number changed, once or twice, whenever a relay has the shard at rest", async () => {
    assert.strictEqual(sound(await explore(protocol, start([1, 1], 2, 1, 1))).states, 7_268)
    assert.strictEqual(sound(await explore(protocol, start([1], 2, 1, 2))).states, 6_448)
  })

  // they are sent side by side, and the commit waits for both
  it("the number before the events", async () => {
    const other = [...program.slice(0, 5), "sendOffsets", "send", ...program.slice(7)] as const
    assert.strictEqual(sound(await explore({ ...protocol, program: other }, start([1, 1], 2), changing)).states, 39_725)
  })

  // it is asked for with the commit, and the last mark is made while the next batch is sent: whichever comes first
  it("the next batch leased after the commit, the last one marked meanwhile", async () => {
    const claimed = [...program.slice(0, 7), "commit", "claim", "mark"] as const
    const marked = [...program.slice(0, 6), "mark", "sendOffsets", "claim", "commit"] as const
    const later = [...program.slice(0, 7), "mark", "claim", "commit"] as const
    for (const other of [claimed, marked, later]) {
      sound(await explore({ ...protocol, program: other }, start([1, 2, 1], 2)))
      sound(await explore({ ...protocol, program: other }, start([1, 1], 2), ["claim", "mark"]))
    }
  })

  // Shards share nothing but the crash of a relay, and here a relay may crash for one shard alone, which allows more: what
  // holds for each shard by itself holds for all of them together. The states of the two shards above bear it out, being
  // the product of theirs.
  it("and with requests that arrive at any time after their sender gave them up", async () =>
    assert.strictEqual(sound(await explore(protocol, start([1, 1], 2), changing)).states, 39_725))
})

describe("P4: the protocol broken, the shortest way to harm", () => {
  const broken = async (change: Partial<Rules>, { changes = 0, late = [], orders = [1] }: {
    readonly late?: ReadonlyArray<Act>
    readonly orders?: ReadonlyArray<number>
    readonly changes?: number
  } = {}) => {
    const found = await explore({ ...protocol, ...change }, start(orders, 2, 1, changes), late)
    return "wrong" in found ? `${found.story} => ${found.wrong}` : `sound in ${found.states} states`
  }

  it("the number read before the fence", async () =>
    expect(await broken({ program: ["acquire", "read", "fence", ...program.slice(3)] })).toMatchInlineSnapshot(
      `"A acquire, A read, A fence, A reconcile, A claim, A send, A sendOffsets, A claim, B acquire, B read, A commit, B fence, B reconcile, B claim, B send => event 0 is on the topic and sent again"`
    ))

  it("marked before the commit", async () =>
    expect(await broken({ marks: "hand", program: [...program.slice(0, 8), "mark", "commit"] })).toMatchInlineSnapshot(
      `"A acquire, A fence, A read, A reconcile, A claim, A send, A sendOffsets, A claim, A mark => event 0 is DONE and not on the topic"`
    ))

  it("a transactional id for each process: the fence does not hit the other relay", async () =>
    expect(await broken({ transactionalId: "process" })).toMatchInlineSnapshot(
      `"A acquire, A fence, A read, A reconcile, A claim, A send, A sendOffsets, A claim, B acquire, B fence, B read, A commit, B reconcile, B claim, B send => event 0 is on the topic and sent again"`
    ))

  it("reconciled by a relay that is not the owner", async () =>
    expect(await broken({ guarded: ["claim"] })).toMatchInlineSnapshot(
      `"A acquire, A fence, A read, B acquire, B fence, B read, B reconcile, B claim, A reconcile, B send, B sendOffsets, B claim, B commit, B mark, B send => event 0 is on the topic and sent again"`
    ))

  it("claimed by a relay that is not the owner", async () =>
    expect(await broken({ guarded: ["reconcile"] }, { orders: [1, 2] })).toMatchInlineSnapshot(
      `"A acquire, A fence, A read, A reconcile, B acquire, B fence, B read, B reconcile, A claim, B claim, B send, B sendOffsets, B claim, B commit (answer lost), B acquire, B fence, B read, B reconcile => event 0 is DONE and not on the topic"`
    ))

  it("sent again under its number after an error, without reconciling", async () =>
    expect(await broken({ afterError: "fence, then send the same again" })).toMatchInlineSnapshot(
      `"A acquire, A fence, A read, A reconcile, A claim, A send, A sendOffsets, A claim, A commit (answer lost), A fence, A send => event 0 is on the topic and sent again"`
    ))

  it("a new producer after the claim: its fence hits the owner that came meanwhile", async () =>
    expect(await broken({ program: [...program.slice(0, 5), "fence", ...program.slice(5)] })).toMatchInlineSnapshot(
      `"A acquire, A fence, A read, A reconcile, A claim, B acquire, B fence, B read, B reconcile, B claim, B fence, B send, B sendOffsets, B claim, B commit, A fence, A send => event 0 is on the topic and sent again"`
    ))

  it("the number read before the shard is acquired", async () =>
    expect(await broken({ program: ["fence", "read", "acquire", ...program.slice(3)] })).toMatchInlineSnapshot(
      `"A fence, A read, B fence, B read, B acquire, B reconcile, B claim, B send, B sendOffsets, B claim, A acquire, A reconcile, B commit (answer lost), B fence, B read, B acquire, B reconcile, B claim, B send => event 0 is on the topic and sent again"`
    ))

  it("a claim without an answer, and claimed again: the next commit covers a batch that was not sent", async () =>
    expect(await broken({ afterError: "claim again" }, { orders: [1, 2] })).toMatchInlineSnapshot(
      `"A acquire, A fence, A read, A reconcile, A claim (answer lost), A claim, A send, A sendOffsets, A claim, A commit (answer lost), A fence, A read, A reconcile => event 0 is DONE and not on the topic"`
    ))

  it("the next batch sent although the one before it is not known to be committed", async () =>
    expect(await broken({ afterError: "fence, then send the next" }, { orders: [1, 2] })).toMatchInlineSnapshot(
      `"A acquire, A fence, A read, A reconcile, A claim, A send, A sendOffsets, A claim, A commit (request lost), A fence, A send, A sendOffsets, A claim, A commit (answer lost), A fence, A read, A reconcile => event 0 is DONE and not on the topic"`
    ))

  // within the token's life a statement that was given up may still arrive, and its token is as good as ever
  it("the token kept after an error: a late reconcile", async () =>
    expect(await broken({ afterError: "fence" }, { late: ["reconcile"] })).toMatchInlineSnapshot(
      `"A acquire, A fence, A read, A reconcile (late), A fence, A read, A reconcile, A claim, the late reconcile of A arrives, A send, A sendOffsets, A claim, A commit, A mark, A send => event 0 is on the topic and sent again"`
    ))

  it("the token kept after an error: a late claim", async () =>
    expect(await broken({ afterError: "fence" }, { late: ["claim"], orders: [1, 2] })).toMatchInlineSnapshot(
      `"A acquire, A fence, A read, A reconcile, A claim (late), A fence, A read, A reconcile, the late claim of A arrives, A claim, A send, A sendOffsets, A claim, A commit (answer lost), A fence, A read, A reconcile => event 0 is DONE and not on the topic"`
    ))

  it("their number changed by a relay that once had the shard at rest", async () =>
    expect(await broken({ changes: "whoever was at rest" }, { changes: 1 })).toMatchInlineSnapshot(
      `"A acquire, A fence, A read, A reconcile, B acquire, B fence, B read, B reconcile, B claim, A change, A acquire, A fence, A read, A reconcile => event 0 is DONE and not on the topic"`
    ))

  it("their number changed by a relay that owns the shard and leases a batch", async () =>
    expect(await broken({ changes: "whoever has the token" }, { changes: 1 })).toMatchInlineSnapshot(
      `"A acquire, A fence, A read, A reconcile, A claim, A change, A acquire, A fence, A read, A reconcile => event 0 is DONE and not on the topic"`
    ))

  describe("harmless", () => {
    it("to keep the token, where no statement of the database arrives late", async () =>
      expect(await broken({ afterError: "fence" }, { late: ["fence", "send", "sendOffsets", "commit", "mark"] }))
        .toMatchInlineSnapshot(`"sound in 8514 states"`))

    // a relay marks after the commit: the events are on the topic, whatever their numbers are now
    it("to mark without naming the number", async () =>
      expect(await broken({ markNames: "nothing" }, { late: changing })).toMatchInlineSnapshot(
        `"sound in 14098 states"`
      ))
  })
})

describe("P4: schedules at random", () => {
  const worlds = [[1, 1], [1, 2, 1], [1, 2, 3, 1, 2], [1, 1, 2, 2, 3, 3], [1, 2, 3, 4, 1, 4]].flatMap((orders) =>
    [2, 3].flatMap((relays) => [1, 2, 3].map((batchSize) => ({ orders, relays, batchSize })))
  )
  const faults = ["crash", "release", "times out", "arrives", "change", "late", "answer lost", "request lost"] as const

  /** A step is a byte: one time in eight another relay goes on, and one time in eight something goes wrong. */
  const clean = (rules: Rules) =>
    fc.property(
      fc.constantFrom(...worlds),
      fc.uint8Array({ minLength: 20, maxLength: 50, size: "max" }),
      ({ batchSize, orders, relays }, schedule) => {
        const shard = start(orders, relays, batchSize, 2)
        const taken: Array<Step> = []
        const go = (step: Step) => {
          taken.push(step)
          play(rules, shard, step)
          const found = wrong(shard)
          if (found !== undefined) {
            throw new Error(`${story(rules, start(orders, relays, batchSize, 2), taken)} => ${found}`)
          }
        }
        let relay = 0
        for (const byte of schedule) {
          if (byte >> 5 === 7) relay = (relay + 1 + (byte & 1)) % relays
          const is = (byte & 7) === 7 ? faults[(byte >> 3) & 7]! : "answered"
          if (is === "arrives") {
            if (shard.wire.length > 0) go({ is, place: byte % shard.wire.length })
          } else if (is === "times out") {
            const producer = shard.producers.findIndex(({ open }) => open)
            if (producer >= 0) go({ is, producer })
          } else if (is === "change") {
            if (mayChange(rules, shard.relays[relay]!)) go({ is, relay })
          } else if (is !== "release" || mayRelease(rules, shard.relays[relay]!)) {
            go({ is, relay })
          }
        }
        for (let count = 0; !complete(shard) && count < 60; count++) go({ is: "answered", relay })
        return complete(shard)
      }
    )

  const thousands = bound({ standard: 15, large: 100 })

  // in pieces: the test runner gives up a worker that does not answer for a minute
  it.live(
    `${thousands},000 longer ones, of more relays, orders and late requests: clean, and completed by the last relay`,
    () =>
      Effect.sync(() => fc.assert(clean(protocol), { numRuns: 5_000 })).pipe(
        Effect.zipRight(Effect.sleep(0)),
        Effect.repeatN(thousands / 5 - 1)
      ),
    240_000
  )

  it("find each broken protocol", async () => {
    const breaks: ReadonlyArray<Partial<Rules>> = [
      { program: ["acquire", "read", "fence", ...program.slice(3)] },
      { marks: "hand", program: [...program.slice(0, 8), "mark", "commit"] },
      { program: [...program.slice(0, 5), "fence", ...program.slice(5)] },
      { program: ["fence", "read", "acquire", ...program.slice(3)] },
      { transactionalId: "process" },
      { guarded: ["claim"] },
      { guarded: ["reconcile"] },
      { afterError: "fence" },
      { afterError: "fence, then send the same again" },
      { afterError: "fence, then send the next" },
      { afterError: "claim again" },
      { changes: "whoever was at rest" },
      { changes: "whoever has the token" }
    ]
    for (const change of breaks) {
      const { failed } = fc.check(clean({ ...protocol, ...change }), { numRuns: 100_000, endOnFailure: true })
      assert.isTrue(failed, JSON.stringify(change))
    }
  })
})

describe("P4: the schedules for the real relay", () => {
  const all = schedules(300)

  it("deliver everything, and hold each call that a relay has to do, done and refused", async () => {
    const seen = new Set(all.flatMap(({ steps }) => steps.map(({ call, outcome }) => `${call} ${outcome}`)))
    assert.sameMembers([...seen], [
      ...["acquire", "fence", "reconcile", "claim", "send", "commit", "loseCommitAnswer", "mark", "release", "crash"]
        .map((
          call
        ) => `${call} done`),
      ...["reconcile", "claim", "send", "commit", "loseCommitAnswer"].map((call) => `${call} refused`)
    ])
    for (const { orders, topic } of all) {
      orders.forEach((events, shard) => assert.sameMembers([...topic[shard]!], events.map((_, event) => event)))
    }
  })

  it("are the same for the same seed", async () => assert.deepStrictEqual(schedules(3, 7), schedules(3, 7)))
})
