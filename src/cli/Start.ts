import { Command } from "@effect/cli"
import { ConfigProvider, Console, Effect, Logger, LogLevel, Option, Schedule } from "effect"
import * as Http from "node:http"
import * as Https from "node:https"
import type { ConfigOf } from "../Config.js"
import { readSettings, settings } from "../Config.js"
import type { Address } from "../infra/runtime/Setting.js"
import { given, showAddress, showUrl } from "../infra/runtime/Setting.js"
import type { Part } from "../local/LocalStackError.js"
import { workers } from "../ops/Parts.js"
import * as Local from "./Local.js"
import { withSettings } from "./Output.js"
import * as Scenario from "./Scenario.js"
import { serve } from "./Serve.js"
import { settingsOf } from "./Services.js"

/** Address of operations HTTP, with the console, unless the environment has another. */
const consoleAddress = "127.0.0.1:8080"

const variables = { postgres: "DATABASE_URL", redis: "REDIS_URL", kafka: "KAFKA_BROKERS" } as const

/** The servers without an address in the environment: `start` runs these itself. */
const missingParts = Effect.gen(function*() {
  const named = yield* Effect.forEach(
    Object.entries(variables),
    ([part, variable]) =>
      Effect.map(
        Effect.orDie(Effect.all([given(variable), given(`${variable}_FILE`)])),
        (given) => [part as Part, given.some(Option.isSome)] as const
      )
  )
  return named.flatMap(([part, isNamed]) => isNamed ? [] : [part])
})

/** The environment with the addresses of the started servers. */
const withAddresses = (addresses: ReadonlyArray<readonly [string, string | undefined]>) =>
  Effect.map(Effect.configProviderWith(Effect.succeed), (environment) =>
    ConfigProvider.orElse(
      ConfigProvider.fromMap(new Map(addresses.flatMap(([name, url]) => url === undefined ? [] : [[name, url]]))),
      () => environment
    ))

/**
 * True when /readyz answers 200. Uses no shared agent, because Node's may use a proxy (`NODE_USE_ENV_PROXY`). It asks the server
 * of its own process, so the certificate may be for another name.
 */
const isReady = (address: Address, tls: boolean) =>
  Effect.async<boolean>((resume) => {
    const { get } = tls ? Https : Http
    get({ ...address, path: "/readyz", agent: false, rejectUnauthorized: false }, (response) => {
      response.resume()
      resume(Effect.succeed(response.statusCode === 200))
    }).on("error", () => resume(Effect.succeed(false)))
  })

/** Ends when the services are ready. */
const ready = Effect.flatMap(
  readSettings("httpAddr", "httpTlsCert"),
  ({ httpAddr, httpTlsCert }) =>
    Effect.repeat(isReady(httpAddr, Option.isSome(httpTlsCert)), {
      until: (ok) => ok,
      schedule: Schedule.spaced("50 millis")
    })
)

const urlOf = ({ httpAddr, httpTlsCert }: ConfigOf<"httpAddr" | "httpTlsCert">) =>
  `${Option.isSome(httpTlsCert) ? "https" : "http"}://${showAddress(httpAddr)}`

/** The addresses, ready to paste: with the well-known password of a PostgreSQL that was started here. */
const addresses = (stack: { readonly databaseUrl?: string }) =>
  Effect.map(
    readSettings("databaseUrl", "redisUrl", "kafkaBrokers", "grpcAddr", "httpAddr", "httpTlsCert"),
    (config) => `
Everything runs until Ctrl-C
  console             ${urlOf(config)}
  PostgreSQL          ${stack.databaseUrl ?? settings.databaseUrl.show(config.databaseUrl)}
  Redis               ${showUrl(config.redisUrl)}
  Kafka               ${config.kafkaBrokers.join(", ")}
  gRPC                ${showAddress(config.grpcAddr)}
  operations          ${urlOf(config)}/readyz  /livez  /metrics`
  )

const nextSteps = (orderId: bigint) => `
Go on, in another terminal
  ./payments watch
  ./payments reserve ${orderId + 1n}
  ./payments pay ${orderId + 1n}
  ./payments payment ${orderId + 1n}
  ./payments reserve ${orderId + 2n} && sleep 1 && ./payments refuse ${orderId + 2n}`

/** Runs the missing servers and all services; plays the saga once if it started all three servers. */
const run = Effect.gen(function*() {
  const config = yield* readSettings(...Local.used, ...settingsOf(workers))
  const started = yield* Effect.clockWith((clock) => clock.currentTimeMillis)
  const parts = yield* missingParts
  const stack = yield* Local.start(config, parts)
  const isLocal = parts.length === 3
  const provider = yield* withAddresses([
    // the address that people know from web programs
    ["HTTP_ADDR", Option.isNone(yield* Effect.orDie(given("HTTP_ADDR"))) ? consoleAddress : undefined],
    [variables.postgres, stack.databaseUrl],
    [variables.redis, stack.redisUrl],
    [variables.kafka, stack.kafkaBrokers]
  ])
  const tour = Effect.gen(function*() {
    yield* ready
    const now = yield* Effect.clockWith((clock) => clock.currentTimeMillis)
    yield* Console.log(`${"services".padEnd(14)}ready in ${((now - started) / 1000).toFixed(1)} s`)
    // printed before the saga closes its connections, which takes a second
    const hints = Effect.fnUntraced(function*(orderId: bigint) {
      yield* Console.log(yield* addresses(stack))
      yield* Console.log(nextSteps(orderId))
    })
    // no play on servers that were not started here
    yield* isLocal ? Effect.scoped(Effect.flatMap(Scenario.run, hints)) : hints(110n)
    return yield* Effect.never
  })
  return yield* Effect.all([serve([], { isLocal }), tour, stack.ended], { concurrency: "unbounded", discard: true })
    .pipe(
      Effect.withConfigProvider(provider)
    )
}).pipe(Effect.scoped)

/** Logs only warnings between the printed lines, unless LOG_LEVEL is set. */
const quietly = Effect.flatMap(
  Effect.orDie(given("LOG_LEVEL")),
  (level) => Option.isNone(level) ? Logger.withMinimumLogLevel(run, LogLevel.Warning) : withSettings([], () => run)
)

export const command = Command.make("start", {}, () => quietly).pipe(
  Command.withDescription("Run everything on this machine and play one order through")
)
