import { Either, Redacted } from "effect"
import type { Address, Parse } from "../runtime/Setting.js"
import { address, url } from "../runtime/Setting.js"

/** Servers that know which Redis is the primary now. */
export interface Sentinels {
  readonly addresses: ReadonlyArray<Address>
  /** Their own password, not that of Redis. */
  readonly password: string | undefined
  /** Name of the primary, and user and database there. */
  readonly name: string
  readonly user: string | undefined
  readonly database: number
}

/** Where a URL leads to, and as whom. */
export interface Target {
  /** The URL up to `://`. */
  readonly scheme: string
  /** Connections are encrypted, also those to Sentinels. */
  readonly tls: boolean
  /** Password of Redis. */
  readonly password: string | undefined
  /** `host:port`, separated by commas, for operators. */
  readonly places: string
  /** Host name or address of the server; undefined when Sentinels tell it. */
  readonly host: string | undefined
  readonly sentinels: Sentinels | undefined
}

/** All but hosts and name may be missing. */
const sentinelUrl =
  /^(rediss?\+sentinel):\/\/(?:([^:@/?#]*)(?::([^/?#]*))?@)?([^@/?#]+)\/([^@/?#]+)(?:\/(\d{1,4}))?(?:\?([^#]*))?$/i

const sentinelAddress = (text: string) => address(/:\d+$/.test(text) ? text : `${text}:26379`)

const decoded = (text: string | undefined) => text && decodeURIComponent(text) || undefined

const ofSentinels = (text: string): Either.Either<Target, string> => {
  const [, scheme, user, password, hosts, name, database, query] = sentinelUrl.exec(text) ?? []
  if (scheme === undefined) {
    return Either.left("is not redis+sentinel://[user:password@]host:port,host:port/name of the primary[/database]")
  }
  const [, own] = /^sentinel_password=([^&]*)$/.exec(query ?? "") ?? []
  if (query && own === undefined) {
    return Either.left("has an unknown parameter: the only one is sentinel_password")
  }
  return Either.mapBoth(Either.all(hosts!.split(",").map(sentinelAddress)), {
    onLeft: () => "has a Sentinel that is not host:port",
    onRight: (addresses) => ({
      scheme: scheme.toLowerCase(),
      tls: /^rediss/i.test(scheme),
      password: decoded(password),
      places: hosts!,
      host: undefined,
      sentinels: {
        addresses,
        password: decoded(own),
        name: decodeURIComponent(name!),
        user: decoded(user),
        database: Number(database ?? 0)
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
        password: decoded(password),
        places: host,
        host: hostname.replace(/^\[|\]$/g, ""),
        sentinels: undefined
      }
    }
  })

const read = (text: string): Either.Either<Target, string> =>
  Either.try({
    try: () => /^rediss?\+sentinel:/i.test(text) ? ofSentinels(text) : ofServer(text),
    catch: () => "has a % without two hexadecimal digits: write %25"
  }).pipe(Either.flatMap((target) => target))

/** Accepts the URL of a server, or of the Sentinels that know the primary. It may have a password: it stays redacted. */
export const setting: Parse<Redacted.Redacted> = (text) => Either.map(read(text), () => Redacted.make(text))

/** Where a URL that `setting` accepted leads to. */
export const parse = (url: Redacted.Redacted): Target => Either.getOrThrow(read(Redacted.value(url)))
