import { Option } from "effect"
import type { ConfigOf } from "../Config.js"
import { settings } from "../Config.js"
import type { RedisServer } from "../infra/redis/RedisAccess.js"
import * as RedisUrl from "../infra/redis/RedisUrl.js"
import * as StorePassword from "./StorePassword.js"

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

/** The Redis server of the settings. */
export const server = (config: ConfigOf<(typeof used)[number]>): RedisServer => ({
  url: config.redisUrl,
  password: StorePassword.of({
    url: config.redisUrl,
    urlFile: config.redisUrlFile,
    urlVariable: settings.redisUrl.name,
    parseUrl: settings.redisUrl.parse,
    inUrl: (url) => RedisUrl.parse(url).password,
    source: { variable: settings.redisPassword.name, value: config.redisPassword, file: config.redisPasswordFile }
  }),
  tls: {
    prefix: "REDIS_TLS",
    ca: Option.getOrUndefined(config.redisTlsCa),
    cert: Option.getOrUndefined(config.redisTlsCert),
    key: Option.getOrUndefined(config.redisTlsKey)
  }
})
