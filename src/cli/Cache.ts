import { Effect, Either, Option, Redacted } from "effect"
import type { ConfigOf } from "../Config.js"
import { settings } from "../Config.js"
import type { RedisServer } from "../infra/redis/RedisAccess.js"
import * as Secret from "../infra/runtime/Secret.js"
import { ConfigProblems } from "../infra/runtime/Setting.js"
import * as Tls from "../infra/tls/Tls.js"

/** The settings of every connection to Redis. */
export const used = [
  "redisUrl",
  "redisUrlFile",
  "redisPassword",
  "redisPasswordFile",
  "redisTlsCa",
  "redisTlsCert",
  "redisTlsKey"
] as const
type Config = ConfigOf<(typeof used)[number]>

const { redisPassword, redisPasswordFile, redisTlsCa, redisTlsCert, redisTlsKey, redisUrl, redisUrlFile } = settings

const passwordIn = (url: Redacted.Redacted) => decodeURIComponent(new URL(Redacted.value(url)).password)

/** The password of a URL, for a file with the whole URL. */
const parsePassword = (text: string) =>
  Either.flatMap(redisUrl.parse(text.trim()), (url) => {
    const password = passwordIn(url)
    return password === "" ? Either.left("has no password") : Either.right(Redacted.make(password))
  })

const password = Effect.fnUntraced(function*(config: Config) {
  const inUrl = passwordIn(config.redisUrl) !== ""
  const [given] = [
    ...(Option.isSome(config.redisPassword) ? [redisPassword.name] : []),
    ...(Option.isSome(config.redisPasswordFile) ? [redisPasswordFile.name] : [])
  ]
  if (given !== undefined && inUrl) {
    const url = Option.isSome(config.redisUrlFile) ? redisUrlFile.name : redisUrl.name
    return yield* ConfigProblems.one(
      given,
      `is set beside the password in ${url}: remove one of them`,
      redisPasswordFile.example
    )
  }
  const secret = yield* inUrl && Option.isSome(config.redisUrlFile)
    ? Secret.choose({
      variable: redisUrl.name,
      value: Option.none(),
      file: config.redisUrlFile,
      parse: parsePassword
    })
    : Secret.choose({ variable: redisPassword.name, value: config.redisPassword, file: config.redisPasswordFile })
  return Option.getOrUndefined(secret)
})

const tls = Effect.fnUntraced(function*(config: Config) {
  const files = { ca: config.redisTlsCa, cert: config.redisTlsCert, key: config.redisTlsKey }
  const variables = { ca: redisTlsCa, cert: redisTlsCert, key: redisTlsKey }
  const [set] = Object.entries(files).flatMap(([name, file]) => Option.isSome(file) ? [name as keyof typeof files] : [])
  if (new URL(Redacted.value(config.redisUrl)).protocol === "redis:") {
    if (set === undefined) return undefined
    return yield* ConfigProblems.one(
      variables[set].name,
      `is set, but ${redisUrl.name} begins with redis://: write rediss://`,
      variables[set].example
    )
  }
  for (const [one, other] of [["cert", "key"], ["key", "cert"]] as const) {
    if (Option.isSome(files[one]) && Option.isNone(files[other])) {
      return yield* ConfigProblems.one(
        variables[other].name,
        `is missing: ${variables[one].name} is set`,
        variables[other].example
      )
    }
  }
  const named: Tls.TlsFiles = {
    prefix: "REDIS_TLS",
    ca: Option.getOrUndefined(files.ca),
    cert: Option.getOrUndefined(files.cert),
    key: Option.getOrUndefined(files.key)
  }
  yield* Effect.mapError(Tls.load(named), (error) => ConfigProblems.one(error.variable, error.problem, ""))
  return named
})

/** The Redis server of the settings. Fails with `ConfigProblems` when these contradict each other, or name unusable files. */
export const server = Effect.fnUntraced(function*(config: Config): Effect.fn.Return<RedisServer, ConfigProblems> {
  return { url: config.redisUrl, password: yield* password(config), tls: yield* tls(config) }
})
