import { assert } from "@effect/vitest"
import { Duration, Effect, Fiber, Option, Schedule } from "effect"
import * as OutboxWake from "../../src/outbox/OutboxWake.js"
import type { Container } from "../deploy/Rendered.js"
import { deployments, pauseOf, rendered, valueOf } from "../deploy/Rendered.js"
import * as Calls from "../harness/Calls.js"
import { eventually } from "../harness/Eventually.js"
import * as Program from "../harness/Program.js"
import * as Topics from "../harness/Topics.js"
import { slowRelay } from "./Instances.js"
import * as Saga from "./Saga.js"

/** How long a client, a proxy or a node goes on sending calls to a pod that has been taken from its Service. */
const hearsAfter = "2 seconds"
const callers = 16
const perTurn = 5
/** Events that wait when a pod with the relay gets its SIGTERM. Relays that take one at a time have some in hand for a second. */
const backlog = 1_000
/** Orders of these events: above those of the clients. */
const firstOfBacklog = 1_000_000

type Deployed = ReturnType<typeof deployments>[number]

/** The variables that the chart sets, but for addresses: a pod has its own, and this machine has one for all. */
const variables = (container: Container): Program.Environment =>
  Object.fromEntries(
    ["SHUTDOWN_TIMEOUT", "MIGRATE_ON_START", "INSECURE"].flatMap((name) => {
      const value = valueOf(container, name)
      return value === undefined ? [] : [[name, value]]
    })
  )

/**
 * Replaces all pods of an example of the chart one by one, as `helm upgrade` does, while clients write and pay. No call may fail, no event
 * be sent twice, and nothing be lost. With relays that are behind, each has events in hand when it is stopped.
 */
export const rollingUpdate = Effect.fnUntraced(function*(
  example: "minimal" | "together",
  relays: "idle" | "behind" = "idle"
) {
  const manifests = rendered(example)
  const parts = deployments(manifests)
  const saga = yield* Saga.make()
  const { tables, topics, world } = saga

  // the Job before the pods
  const [job] = manifests.filter(({ kind }) => kind === "Job")
  const migrated = yield* Program.run(job!.spec.template.spec.containers[0].args, world.env)
  assert.strictEqual(migrated.code, 0, migrated.stderr)

  /** What clients know: it follows the endpoints late. */
  const targets = new Map<string, Effect.Effect.Success<ReturnType<typeof Calls.make>>>()
  const later = (change: Effect.Effect<unknown>) => Effect.forkScoped(Effect.delay(change, hearsAfter))

  let behind = 0
  /** Writes orders that no call settles: relays send their events for a while. */
  const fallBehind = Effect.suspend(() => {
    const first = firstOfBacklog + behind
    behind += backlog
    return tables.query(
      `WITH paid AS (
         INSERT INTO payment (order_id, status) SELECT n, 'CREATED' FROM generate_series($2::bigint, $3::bigint) AS n
       ), written AS (
         INSERT INTO event (topic, order_id, payload)
         SELECT $1, n, format('{"idempotent_key":"%s","order_id":%s,"status":"CREATED"}', gen_random_uuid(), n)
         FROM generate_series($2::bigint, $3::bigint) AS n
       )
       SELECT pg_notify('${OutboxWake.channel}', '')`,
      [world.payment, first, first + backlog - 1]
    )
  })

  /** A pod, which the kubelet probes, and which gets calls while it is ready and stays. */
  const start = Effect.fnUntraced(function*({ container, roles, spec }: Deployed) {
    const program = yield* Program.serve(roles, {
      ...world.env,
      ...variables(container),
      ...(relays === "behind" ? slowRelay : {})
    })
    const calls = yield* Calls.make(program.grpc)
    const { failureThreshold, httpGet, periodSeconds, timeoutSeconds } = container.readinessProbe
    let ready = false
    let failures = 0
    const probe = Effect.gen(function*() {
      const answer = yield* program.get(httpGet.path).pipe(
        Effect.timeoutOption(Duration.seconds(timeoutSeconds)),
        Effect.catchAllDefect(() => Effect.succeedNone)
      )
      const ok = Option.exists(answer, ({ status }) => status === 200)
      failures = ok ? 0 : failures + 1
      if (ok && !ready && roles.includes("grpc")) {
        yield* later(Effect.sync(() => targets.set(program.grpc, calls)))
      }
      ready = ok || (ready && failures < failureThreshold)
      return ready
    })
    const probing = yield* Effect.forkScoped(
      Effect.repeat(probe, Schedule.spaced(Duration.seconds(periodSeconds)))
    )
    return {
      untilReady: Effect.sync(() => assert.isTrue(ready, "the pod is not ready")).pipe(eventually("60 seconds")),
      /** Its end: out of the Service, the pause, the SIGTERM, and the end by itself within the grace period. */
      terminate: Effect.gen(function*() {
        yield* Fiber.interruptFork(probing)
        yield* later(Effect.sync(() => targets.delete(program.grpc)))
        yield* Effect.sleep(Duration.seconds(pauseOf(container)))
        if (relays === "behind" && roles.includes("relay")) {
          yield* fallBehind
          const published = yield* program.metric("payments_events_published_total")
          // it is at work, and stays so until the end of the backlog
          yield* Effect.tap(
            program.metric("payments_events_published_total"),
            (n) => Effect.sync(() => assert.isAbove(n, published))
          ).pipe(eventually())
          assert.isAbove(yield* tables.count("event WHERE status = 'WAIT'"), backlog / 10, "not behind")
        }
        yield* program.signal("SIGTERM")
        const left = spec.terminationGracePeriodSeconds - pauseOf(container)
        const { code } = yield* Effect.timeout(program.ended, Duration.seconds(left))
        assert.strictEqual(code, 0, program.stderr())
      })
    } as const
  })

  /** Pods of a Deployment, and their replacement one by one: maxSurge 1, maxUnavailable 0. */
  const deploy = Effect.fnUntraced(function*(part: Deployed) {
    const { minReadySeconds, replicas } = part.manifest.spec
    const old = yield* Effect.forEach(Array.from({ length: replicas! }), () => start(part), {
      concurrency: "unbounded"
    })
    yield* Effect.forEach(old, (pod) => pod.untilReady, { concurrency: "unbounded" })
    const update = Effect.gen(function*() {
      const ending: Array<Fiber.RuntimeFiber<void, unknown>> = []
      for (const pod of old) {
        const successor = yield* start(part)
        yield* successor.untilReady
        yield* Effect.sleep(Duration.seconds(minReadySeconds))
        // the next one begins while this one ends
        ending.push(yield* Effect.forkScoped(pod.terminate))
      }
      yield* Fiber.joinAll(ending)
    })
    return { update }
  })

  let orders = 0
  let settled = 0
  let enough = false
  const failed = new Map<string, number>()
  const open: Array<number> = []
  const writing = Effect.gen(function*() {
    while (!enough) {
      const ids = Array.from({ length: perTurn }, () => ++orders)
      yield* topics.writeAll(world.inventory, orders % 4, ids.map((id) => ({ value: Topics.reserved(id) })))
      open.push(...ids)
      yield* Effect.sleep("100 millis")
    }
  })
  let asked = 0
  const settle = (orderId: number): Effect.Effect<void> =>
    Effect.gen(function*() {
      const known = [...targets.values()]
      const { code, details } = yield* known[asked++ % known.length]!.pay(orderId)
      if (code === "OK") {
        settled++
        return
      }
      // the consumer has not come to it yet
      if (code !== "NOT_FOUND") failed.set(`${code}: ${details}`, (failed.get(`${code}: ${details}`) ?? 0) + 1)
      yield* Effect.sleep("100 millis")
      yield* settle(orderId)
    })
  const calling = Effect.gen(function*() {
    while (!enough || open.length > 0) {
      const orderId = open.shift()
      yield* orderId === undefined ? Effect.sleep("50 millis") : settle(orderId)
    }
  })
  const more = (count: number) =>
    Effect.suspend(() => {
      const goal = settled + count
      return Effect.sync(() => assert.isAtLeast(settled, goal)).pipe(eventually("60 seconds"))
    })

  const running = yield* Effect.forEach(parts, deploy, { concurrency: "unbounded" })
  yield* Effect.sync(() => assert.strictEqual(targets.size, 2)).pipe(eventually())
  const before = [...targets.keys()]
  const load = yield* Effect.forkScoped(
    Effect.all([writing, ...Array.from({ length: callers }, () => calling)], {
      concurrency: "unbounded",
      discard: true
    })
  )
  yield* more(50)
  // as `helm upgrade` does: all Deployments at the same time
  yield* Effect.forEach(running, ({ update }) => update, { concurrency: "unbounded" })
  yield* more(50)
  enough = true
  yield* Effect.timeout(Fiber.join(load), "60 seconds")

  assert.isEmpty([...targets.keys()].filter((target) => before.includes(target)), "an old pod still gets calls")
  const verdict = yield* saga.audit(Saga.noResends)
  assert.deepStrictEqual(Object.fromEntries(failed), {}, "calls failed")
  assert.strictEqual(yield* tables.count("payment WHERE status = 'COMPLETED'"), orders)
  assert.strictEqual(verdict.payment_records, 2 * orders + behind)
})
