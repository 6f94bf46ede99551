import { Either, Redacted } from "effect"
import type { RedisOptions } from "ioredis"
import type { Parse } from "../runtime/Setting.js"
import { address, url } from "../runtime/Setting.js"

/** Where a URL leads to, and as whom. */
export interface Target {
  /** The URL up to `://`. A `rediss` in it: connections are encrypted, also those to Sentinels. */
  readonly scheme: string
  readonly tls: boolean
  readonly password: string | undefined
  /** `host:port`, separated by commas, for operators. */
  readonly places: string
  /** Host name or address of the server; undefined when Sentinels say it. */
  readonly host: string | undefined
  /** What ioredis needs of a URL that names Sentinels: it cannot read that URL itself. */
  readonly sentinels: RedisOptions | undefined
}

/** All but hosts and name may be missing. */
const sentinelUrl =
  /^(rediss?\+sentinel):\/\/(?:([^:@/?#]*)(?::([^/?#]*))?@)?([^@/?#]+)\/([^/?#]+)(?:\/(\d{1,4}))?(?:\?([^#]*))?$/

const sentinelAddress = (text: string) => address(/:\d+$/.test(text) ? text : `${text}:26379`)

const ofSentinels = (text: string): Either.Either<Target, string> => {
  const [, scheme, user = "", password = "", hosts, name, database = "0", query = ""] = sentinelUrl.exec(text) ?? []
  if (scheme === undefined) {
    return Either.left("is not redis+sentinel://[user:password@]host:port,host:port/name of the primary[/database]")
  }
  const parameters = new URLSearchParams(query)
  if ([...parameters.keys()].some((key) => key !== "sentinel_password")) {
    return Either.left("has an unknown parameter: the only one is sentinel_password")
  }
  const tls = scheme.startsWith("rediss")
  const secret = decodeURIComponent(password)
  return Either.mapBoth(Either.all(hosts!.split(",").map(sentinelAddress)), {
    onLeft: () => "has a Sentinel that is not host:port",
    onRight: (sentinels) => ({
      scheme,
      tls,
      password: secret || undefined,
      places: hosts!,
      host: undefined,
      sentinels: {
        sentinels,
        name: decodeURIComponent(name!),
        username: decodeURIComponent(user),
        password: secret,
        db: Number(database),
        sentinelPassword: parameters.get("sentinel_password") ?? "",
        // one that stands still takes connections, too
        sentinelCommandTimeout: 2_000,
        enableTLSForSentinelMode: tls
      }
    })
  })
}

const ofServer = (text: string): Either.Either<Target, string> =>
  Either.mapBoth(url("redis:", "rediss:")(text), {
    onLeft: (problem) => `${problem}, nor one of Sentinels: redis+sentinel:// or rediss+sentinel://`,
    onRight: () => {
      const { host, hostname, password, protocol } = new URL(text)
      return {
        scheme: protocol.slice(0, -1),
        tls: protocol === "rediss:",
        password: decodeURIComponent(password) || undefined,
        places: host,
        host: hostname.replace(/^\[|\]$/g, ""),
        sentinels: undefined
      }
    }
  })

const read = (text: string): Either.Either<Target, string> =>
  Either.try({
    try: () => /^rediss?\+sentinel:/.test(text) ? ofSentinels(text) : ofServer(text),
    catch: () => "has a % without two hexadecimal digits: write %25"
  }).pipe(Either.flatMap((target) => target))

/** Accepts the URL of a server, or of the Sentinels that know the primary. It may have a password: it stays redacted. */
export const setting: Parse<Redacted.Redacted> = (text) => Either.map(read(text), () => Redacted.make(text))

/** Where a URL that `setting` accepted leads to. */
export const parse = (url: Redacted.Redacted): Target => Either.getOrThrow(read(Redacted.value(url)))
