import { Command } from "@effect/cli"
import { ConfigProvider, Console, Effect, Logger, LogLevel, Option, Schedule } from "effect"
import * as Http from "node:http"
import { readSettings, settings } from "../Config.js"
import type { Address } from "../infra/runtime/Setting.js"
import { given, showAddress, showUrl } from "../infra/runtime/Setting.js"
import type { Part } from "../local/LocalStackError.js"
import * as Local from "./Local.js"
import { withSettings } from "./Output.js"
import * as Scenario from "./Scenario.js"
import { serve } from "./Serve.js"
import { parts as allParts, settingsOf } from "./Services.js"

const variables = { postgres: "DATABASE_URL", redis: "REDIS_URL", kafka: "KAFKA_BROKERS" } as const

/** The servers that the environment does not name: these are ours to start. */
const missingParts = Effect.gen(function*() {
  const named = yield* Effect.forEach(
    Object.entries(variables),
    ([part, variable]) =>
      Effect.map(
        Effect.orDie(given(variable)),
        (url) => [part as Part, Option.isSome(url)] as const
      )
  )
  return named.flatMap(([part, isNamed]) => isNamed ? [] : [part])
})

/** The environment, and in it the addresses of what we started. */
const withAddresses = (addresses: ReadonlyArray<readonly [string, string | undefined]>) =>
  Effect.map(Effect.configProviderWith(Effect.succeed), (environment) =>
    ConfigProvider.orElse(
      ConfigProvider.fromMap(new Map(addresses.flatMap(([name, url]) => url === undefined ? [] : [[name, url]]))),
      () => environment
    ))

/** Whether /readyz answers 200. With an agent of its own: Node's common one may send it to a proxy (`NODE_USE_ENV_PROXY`). */
const isReady = (address: Address) =>
  Effect.async<boolean>((resume) => {
    Http.get({ ...address, path: "/readyz", agent: false }, (response) => {
      response.resume()
      resume(Effect.succeed(response.statusCode === 200))
    }).on("error", () => resume(Effect.succeed(false)))
  })

/** Ends when the services say that they have all they need. */
const ready = Effect.flatMap(
  readSettings("httpAddr"),
  ({ httpAddr }) => Effect.repeat(isReady(httpAddr), { until: (ok) => ok, schedule: Schedule.spaced("50 millis") })
)

/** What was started here is told as one would paste it, with the password that everybody knows. */
const whereabouts = (stack: { readonly databaseUrl?: string }) =>
  Effect.map(readSettings("databaseUrl", "redisUrl", "kafkaBrokers", "grpcAddr", "httpAddr"), (config) => `
Everything runs until Ctrl-C
  PostgreSQL          ${stack.databaseUrl ?? settings.databaseUrl.show(config.databaseUrl)}
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
  const config = yield* readSettings(...Local.used, ...settingsOf(allParts))
  const started = yield* Effect.clockWith((clock) => clock.currentTimeMillis)
  const parts = yield* missingParts
  const stack = yield* Local.start(config, parts)
  const provider = yield* withAddresses([
    [variables.postgres, stack.databaseUrl],
    [variables.redis, stack.redisUrl],
    [variables.kafka, stack.kafkaBrokers]
  ])
  const tour = Effect.gen(function*() {
    yield* ready
    const now = yield* Effect.clockWith((clock) => clock.currentTimeMillis)
    yield* Console.log(`${"services".padEnd(14)}ready in ${((now - started) / 1000).toFixed(1)} s`)
    // the hints come before the play gives back what it has open, which takes a second
    const hints = Effect.fnUntraced(function*(orderId: bigint) {
      yield* Console.log(yield* whereabouts(stack))
      yield* Console.log(nextSteps(orderId))
    })
    // other people's servers are not for plays
    yield* parts.length === 3 ? Effect.scoped(Effect.flatMap(Scenario.run, hints)) : hints(111n)
    return yield* Effect.never
  })
  return yield* Effect.all([serve([]), tour, stack.ended], { concurrency: "unbounded", discard: true }).pipe(
    Effect.withConfigProvider(provider)
  )
}).pipe(Effect.scoped)

/** Between the lines that tell the story only what is wrong is logged, unless LOG_LEVEL asks for more. */
const quietly = Effect.flatMap(
  Effect.orDie(given("LOG_LEVEL")),
  (level) => Option.isNone(level) ? Logger.withMinimumLogLevel(run, LogLevel.Warning) : withSettings([], () => run)
)

export const command = Command.make("start", {}, () => quietly).pipe(
  Command.withDescription("Run everything on this machine, and play one order through")
)
