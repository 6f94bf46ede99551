import { Effect, Exit, Scope } from "effect"
import { Redis } from "ioredis"
import { freePort } from "../harness/FreePort.js"
import type { Services } from "../harness/Program.js"
import * as Program from "../harness/Program.js"
import * as Proxy from "../harness/Proxy.js"
import * as Restartable from "../harness/Restartable.js"
import * as Secured from "../harness/Secured.js"
import * as Saga from "../proof/Saga.js"

export interface Instance {
  readonly program: Services
  readonly gone: Effect.Effect<void>
}

export const deliveries = ["at-least-once", "exactly-once", "mixed"] as const
/** `mixed`: every other instance, as while the one is changed for the other. */
export type Delivery = (typeof deliveries)[number]

/** Servers of our own, a proxy before each, and services that reach them by the proxies alone. */
export const make = Effect.fnUntraced(function*(
  options: {
    readonly instances: number
    readonly ordersPerSecond: number
    readonly delivery: Delivery
    /** Encrypt and authenticate every connection. Default: false. */
    readonly tls?: boolean
  }
) {
  const front = yield* freePort
  const secured = options.tls === true ? yield* Secured.make : undefined
  const tls = secured === undefined ? {} : { tls: secured.servers }
  const [postgres, redis, kafka] = yield* Effect.all([
    Restartable.make("postgres", tls),
    Restartable.make("redis", tls),
    Restartable.makeBrokerBehind(front, secured)
  ], { concurrency: "unbounded" })
  if (secured !== undefined) yield* secured.setPassword(kafka.broker.url, "first-password")
  const databaseUrl = (url: string) => secured === undefined ? url : secured.trusting(url)
  const proxies = {
    postgres: yield* Proxy.make(postgres.url),
    redis: yield* Proxy.make(redis.url),
    kafka: yield* Proxy.make(kafka.behind, front)
  }
  const env = {
    ...secured?.variables,
    DATABASE_URL: databaseUrl(proxies.postgres.url),
    REDIS_URL: proxies.redis.url,
    KAFKA_BROKERS: kafka.front,
    OUTBOX_LEASE: "5s"
  }
  const saga = yield* Saga.make({
    ordersPerSecond: options.ordersPerSecond,
    servers: { databaseUrl: databaseUrl(postgres.url), redisUrl: redis.url, kafkaBrokers: kafka.broker.url },
    env,
    ...secured === undefined ? {} : { secured: secured.credentials }
  })

  const instances: Array<Instance> = []
  /** What instances said that ended though nobody had asked them to. */
  const deserted: Array<string> = []

  let enlisted = 0
  const enlist = Effect.gen(function*() {
    const scope = yield* Scope.make()
    const delivery = options.delivery === "mixed" ? deliveries[enlisted++ % 2]! : options.delivery
    const program = yield* Scope.extend(saga.serve([], { OUTBOX_DELIVERY: delivery }), scope)
    const instance: Instance = { program, gone: Scope.close(scope, Exit.void) }
    instances.push(instance)
    yield* program.ended.pipe(
      Effect.tap(({ code, signal }) =>
        Effect.sync(() => {
          if (instances.includes(instance)) {
            deserted.push(`an instance ended by itself (${code ?? signal}):\n${program.stderr().slice(-1_000)}`)
          }
        })
      ),
      Effect.interruptible,
      Effect.forkIn(scope)
    )
    return instance
  }).pipe(Effect.uninterruptible)

  /** An instance by any number. */
  const some = (pick: number) => Effect.sync(() => instances[pick % instances.length]!)

  /** Takes it off the list, so that it may end. */
  const dismiss = (instance: Instance) => Effect.sync(() => void instances.splice(instances.indexOf(instance), 1))

  /** Asks an instance to end. Answers whether it did so as it should. */
  const retire = Effect.fnUntraced(function*(instance: Instance) {
    yield* dismiss(instance)
    yield* instance.program.signal("SIGTERM")
    const ended = yield* Effect.option(Effect.timeout(instance.program.ended, "25 seconds"))
    if (ended._tag === "None" || ended.value.code !== 0) {
      deserted.push(`an instance did not stop as it should:\n${instance.program.stderr().slice(-1_000)}`)
    }
    yield* instance.gone
  })

  yield* Effect.addFinalizer(() =>
    Effect.forEach(instances.splice(0), ({ gone }) => gone, { concurrency: "unbounded", discard: true })
  )

  /** Runs one command of ours, as an operator does. */
  const operate = Effect.fnUntraced(function*(...args: ReadonlyArray<string>) {
    const { code, stderr } = yield* Program.run(args, { ...saga.world.env, ...env })
    if (code !== 0) deserted.push(`${args.join(" ")} ended with ${code}:\n${stderr.slice(-1_000)}`)
  })

  /** Runs one command in Redis itself. */
  const command = (name: string, ...args: ReadonlyArray<string>) =>
    Effect.promise(async () => {
      const client = new Redis(redis.url, {
        maxRetriesPerRequest: 0,
        retryStrategy: () => null,
        ...secured === undefined ? {} : { tls: { ca: secured.credentials.ca } }
      }).on("error", () => {})
      try {
        return await client.call(name, ...args)
      } finally {
        client.disconnect()
      }
    })

  yield* Effect.replicateEffect(enlist, options.instances, { discard: true })
  yield* Effect.forEach(instances, ({ program }) => program.untilReady, { concurrency: "unbounded", discard: true })
  return {
    saga,
    postgres,
    redis,
    kafka: kafka.broker,
    proxies,
    enlist,
    some,
    dismiss,
    retire,
    command,
    operate,
    instances: instances as ReadonlyArray<Instance>,
    deserted: deserted as ReadonlyArray<string>
  } as const
})

export type Ground = Effect.Effect.Success<ReturnType<typeof make>>
