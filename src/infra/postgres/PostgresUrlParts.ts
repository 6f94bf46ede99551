import { Either } from "effect"

/** Address of a server. */
export interface Host {
  /** Name, IP address, or, when it begins with `/`, the folder of a Unix socket. */
  readonly host: string
  readonly port: number
  /** IP address to connect to instead of looking `host` up (libpq's `hostaddr`). */
  readonly address?: string
}

/** Problem of a URL. The text contains no value of the URL: each may be a part of a password. */
export class Problem {
  constructor(readonly text: string) {}
}

export const fail = (text: string): never => {
  throw new Problem(text)
}

const decode = (text: string, part: string) =>
  /%00|%(?![0-9a-fA-F]{2})/.test(text)
    ? fail(`has a % in ${part} without two hexadecimal digits after it (write %25 for a %)`)
    : Either.getOrElse(
      Either.try(() => decodeURIComponent(text)),
      () => fail(`has percent-encoded bytes in ${part} that are not UTF-8`)
    )

/** libpq parameters that do not apply to this client, or ask for its normal behaviour. */
export const ignored = new Set([
  "keepalives_interval",
  "keepalives_count",
  "tcp_user_timeout",
  "sslcompression",
  "sslsni",
  "gssdelegation",
  "gsslib",
  "krbsrvname",
  "sslcertmode",
  "min_protocol_version",
  "max_protocol_version"
])

/** libpq parameters that ask for a feature that this client lacks. */
export const unsupported = new Set(["passfile", "service", "servicefile", "replication", "requirepeer", "require_auth"])

/** libpq parameters that this client reads. */
export const known = new Set([
  "host",
  "hostaddr",
  "port",
  "user",
  "password",
  "dbname",
  "sslmode",
  "ssl",
  "sslrootcert",
  "sslcrl",
  "sslcert",
  "sslkey",
  "sslpassword",
  "sslnegotiation",
  "ssl_min_protocol_version",
  "ssl_max_protocol_version",
  "channel_binding",
  "gssencmode",
  "target_session_attrs",
  "load_balance_hosts",
  "application_name",
  "fallback_application_name",
  "options",
  "connect_timeout",
  "keepalives",
  "keepalives_idle",
  "client_encoding"
])

/** Parts of a URL, percent-decoded except for the hosts. */
export interface Parts {
  readonly user: string | undefined
  readonly password: string | undefined
  readonly hosts: string
  readonly database: string
  readonly query: ReadonlyArray<readonly [name: string, value: string]>
}

export const form = /^(postgres(?:ql)?:\/\/)(?:([^/?]*)@)?([^/?]*)(?:\/([^?]*))?(?:\?(.*))?$/s

/** Splits a URL into its parts. The last `@` before the path ends the password. */
export const split = (text: string): Parts => {
  if (!/^postgres(ql)?:\/\//.test(text)) {
    return fail(
      /^\s*[a-z_]+\s*=/.test(text)
        ? "is a list of key=value, not a URL"
        : "is not a URL that starts with postgres:// or postgresql://"
    )
  }
  const [, , userinfo, hosts = "", database = "", query = ""] = form.exec(text) ?? fail("is not a URL")
  if (userinfo === undefined && database.includes("@")) {
    return fail("has an @ after a / (in a user name or password, write %2F for /)")
  }
  const [, user, password] = /^([^:]*)(?::(.*))?$/s.exec(userinfo ?? "")!
  return {
    user: user === "" ? undefined : decode(user!, "the user name"),
    password: password === undefined ? undefined : decode(password, "the password"),
    hosts,
    database: decode(database, "the name of the database"),
    query: query === "" ? [] : query.split("&").map((pair) => {
      const [, name, value] = /^([^=]*)=(.*)$/s.exec(pair) ?? fail("has a parameter without a value")
      const decoded = decode(name!, "the name of a parameter")
      return [decoded, decode(value!, `parameter ${known.has(decoded) ? decoded : "values"}`)]
    })
  }
}

const portOf = (text: string) =>
  text === ""
    ? 5432
    : /^\d{1,5}$/.test(text) && Number(text) >= 1 && Number(text) <= 65_535
    ? Number(text)
    : fail("has a port that is not a number from 1 to 65535 (in a password, write %2F for /, %3F for ? and %40 for @)")

/** Hosts of the authority, the part between `@` and the path. */
const authority = (text: string): ReadonlyArray<Host> =>
  text.split(",").map((item) => {
    const [, v6, name = "", port = ""] = /^(?:\[([0-9a-fA-F:.%a-zA-Z0-9]+)\]|([^:[\]]*))(?::(.*))?$/.exec(item) ??
      fail("has a host that is not name, name:port or [IPv6]:port")
    return { host: v6 ?? decode(name, "the name of a host"), port: portOf(port) }
  })

/** Hosts of the URL. The parameters `host`, `hostaddr` and `port` override the authority; the default is `localhost`. */
export const hostsOf = (
  parts: Parts,
  of: (name: string) => string | undefined
): readonly [Host, ...ReadonlyArray<Host>] => {
  const before = parts.hosts === "" ? [] : authority(parts.hosts)
  const lists = { host: of("host")?.split(","), address: of("hostaddr")?.split(","), port: of("port")?.split(",") }
  const count = Math.max(1, lists.host?.length ?? lists.address?.length ?? before.length)
  for (const [name, list] of Object.entries({ hostaddr: lists.address, port: lists.port })) {
    if (list !== undefined && list.length !== count && !(name === "port" && list.length === 1)) {
      return fail(`has ${count} hosts, but ${list.length} values in ${name}`)
    }
  }
  const hosts = Array.from({ length: count }, (_, i): Host => {
    const address = lists.address?.[i] ?? ""
    const host = (lists.host === undefined ? before[i]?.host : lists.host[i]) ?? ""
    const port = lists.port === undefined
      ? (lists.host === undefined ? before[i] : before.length === 1 ? before[0] : undefined)?.port ?? 5432
      : portOf(lists.port[i] ?? lists.port[0]!)
    return { host: host === "" ? address === "" ? "localhost" : address : host, port, ...(address && { address }) }
  })
  return hosts as unknown as readonly [Host, ...ReadonlyArray<Host>]
}
