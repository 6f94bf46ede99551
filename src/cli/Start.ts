import { Command } from "@effect/cli"
import { Config, ConfigProvider, Console, Effect, Layer, Logger, LogLevel, Option, Schedule } from "effect"
import { AppConfig } from "../Config.js"
import { showAddress, showUrl } from "../infra/Setting.js"
import type { Part } from "../local/LocalStackError.js"
import * as Local from "./Local.js"
import * as Scenario from "./Scenario.js"
import { serve } from "./Serve.js"

const variables = { postgres: "DATABASE_URL", redis: "REDIS_URL", kafka: "KAFKA_BROKERS" } as const

/** The servers that the environment does not name: these are ours to start. */
const missingParts = Effect.gen(function*() {
  const given = yield* Effect.forEach(
    Object.entries(variables),
    ([part, variable]) =>
      Effect.map(
        Effect.orDie(Config.option(Config.string(variable))),
        (url) => [part as Part, Option.isSome(url)] as const
      )
  )
  return given.flatMap(([part, isGiven]) => isGiven ? [] : [part])
})

/** Our PostgreSQL speaks plain text on the loopback address, whatever `PGSSLMODE` asks for other servers. */
const inPlainText = Effect.fnUntraced(function*(url: string | undefined) {
  const asked = yield* Effect.orDie(Config.option(Config.string("PGSSLMODE")))
  return url === undefined || Option.isNone(asked) ? url : `${url}?sslmode=disable`
})

/** The environment, and in it the addresses of what we started. */
const withAddresses = (addresses: ReadonlyArray<readonly [string, string | undefined]>) =>
  Effect.map(Effect.configProviderWith(Effect.succeed), (environment) =>
    ConfigProvider.orElse(
      ConfigProvider.fromMap(new Map(addresses.flatMap(([name, url]) => url === undefined ? [] : [[name, url]]))),
      () => environment
    ))

/** Ends when the services say that they have all they need. */
const ready = Effect.flatMap(
  AppConfig,
  ({ httpAddr }) =>
    Effect.tryPromise(() => fetch(`http://${showAddress(httpAddr)}/readyz`)).pipe(
      Effect.filterOrFail((response) => response.ok),
      Effect.retry(Schedule.spaced("50 millis"))
    )
)

const whereabouts = Effect.map(AppConfig, (config) => `
Everything runs until Ctrl-C
  PostgreSQL          ${showUrl(config.databaseUrl)}
  Redis               ${showUrl(config.redisUrl)}
  Kafka               ${config.kafkaBrokers.join(", ")}
  gRPC                ${showAddress(config.grpcAddr)}
  operations          http://${showAddress(config.httpAddr)}/readyz  /livez  /metrics`)

const nextSteps = (orderId: bigint) => `
Go on, in another terminal
  ./payments watch
  ./payments reserve ${orderId + 1n}
  ./payments pay ${orderId + 1n}
  ./payments payment ${orderId + 1n}
  ./payments reserve ${orderId + 2n} && sleep 1 && ./payments refuse ${orderId + 2n}`

/** The whole on this machine: what is missing of the stack, all services, and the saga once if the stack is all ours. */
const run = Effect.gen(function*() {
  const config = yield* AppConfig
  const started = yield* Effect.clockWith((clock) => clock.currentTimeMillis)
  const parts = yield* missingParts
  const stack = yield* Local.start(config, parts)
  const provider = yield* withAddresses([
    [variables.postgres, yield* inPlainText(stack.databaseUrl)],
    [variables.redis, stack.redisUrl],
    [variables.kafka, stack.kafkaBrokers]
  ])
  const tour = Effect.gen(function*() {
    yield* ready
    const now = yield* Effect.clockWith((clock) => clock.currentTimeMillis)
    yield* Console.log(`${"services".padEnd(14)}ready in ${((now - started) / 1000).toFixed(1)} s`)
    // the hints come before the play gives back what it has open, which takes a second
    const hints = Effect.fnUntraced(function*(orderId: bigint) {
      yield* Console.log(yield* whereabouts)
      yield* Console.log(nextSteps(orderId))
    })
    // other people's servers are not for plays
    yield* parts.length === 3 ? Effect.scoped(Effect.flatMap(Scenario.run, hints)) : hints(111n)
    return yield* Effect.never
  })
  return yield* Effect.all([serve([]), tour, stack.ended], { concurrency: "unbounded", discard: true }).pipe(
    Effect.provide(Layer.provide(AppConfig.layer, Layer.setConfigProvider(provider)))
  )
}).pipe(Effect.scoped)

/** Between the lines that tell the story only what is wrong is logged, unless LOG_LEVEL asks for more. */
const quiet = Layer.unwrapEffect(
  Effect.map(
    Effect.orDie(Config.option(Config.string("LOG_LEVEL"))),
    (level) => Option.isNone(level) ? Logger.minimumLogLevel(LogLevel.Warning) : Layer.empty
  )
)

export const command = Command.make("start", {}, () => Effect.provide(run, quiet)).pipe(
  Command.withDescription("Run everything on this machine, and play one order through")
)
