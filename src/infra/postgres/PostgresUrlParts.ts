import { Either } from "effect"

/** One place where a server may be. */
export interface Host {
  /** Name, IP address, or, when it begins with `/`, the folder of a Unix socket. */
  readonly host: string
  readonly port: number
  /** IP address to connect to instead of looking `host` up (libpq's `hostaddr`). */
  readonly address?: string
}

/** What is wrong with a URL, without any of its values: they may be a part of a password. */
export class Problem {
  constructor(readonly text: string) {}
}

export const fail = (text: string): never => {
  throw new Problem(text)
}

const decode = (text: string, what: string) =>
  /%00|%(?![0-9a-fA-F]{2})/.test(text)
    ? fail(`has a % in ${what} that is not followed by the two digits of a character (a % itself is %25)`)
    : Either.getOrElse(
      Either.try(() => decodeURIComponent(text)),
      () => fail(`has percent-encoded bytes in ${what} that are not UTF-8`)
    )

/** Parameters of libpq that say nothing to this client, or only what it does anyway. */
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

/** Parameters of libpq that ask for what this client cannot do. */
export const unsupported = new Set(["passfile", "service", "servicefile", "replication", "requirepeer", "require_auth"])

/** Parameters of libpq that are read. */
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

/** The parts of the text, decoded but for the hosts. */
export interface Parts {
  readonly user: string | undefined
  readonly password: string | undefined
  readonly hosts: string
  readonly database: string
  readonly query: ReadonlyArray<readonly [name: string, value: string]>
}

export const form = /^(postgres(?:ql)?:\/\/)(?:([^/?]*)@)?([^/?]*)(?:\/([^?]*))?(?:\?(.*))?$/s

/** Takes the text apart. The last `@` before the path ends the password. */
export const split = (text: string): Parts => {
  if (!/^postgres(ql)?:\/\//.test(text)) {
    return fail(
      /^\s*[a-z_]+\s*=/.test(text)
        ? "is a list of key=value, and a URL is asked for"
        : "is not a URL that starts with postgres:// or postgresql://"
    )
  }
  const [, , userinfo, hosts = "", database = "", query = ""] = form.exec(text) ?? fail("is not a URL")
  if (userinfo === undefined && database.includes("@")) {
    return fail("has an @ after a /, which is %2F in a user name or password")
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
    : fail("has a port that is not a number from 1 to 65535 (in a password, / is written %2F, ? %3F and @ %40)")

/** Hosts of the part between `@` and the path. */
const authority = (text: string): ReadonlyArray<Host> =>
  text.split(",").map((item) => {
    const [, v6, name = "", port = ""] = /^(?:\[([0-9a-fA-F:.%a-zA-Z0-9]+)\]|([^:[\]]*))(?::(.*))?$/.exec(item) ??
      fail("has a host that is not name, name:port or [IPv6]:port")
    return { host: v6 ?? decode(name, "the name of a host"), port: portOf(port) }
  })

/** The hosts, with what the parameters say instead; `localhost` where nothing names one. */
export const hostsOf = (
  parts: Parts,
  of: (name: string) => string | undefined
): readonly [Host, ...ReadonlyArray<Host>] => {
  const before = parts.hosts === "" ? [] : authority(parts.hosts)
  const lists = { host: of("host")?.split(","), address: of("hostaddr")?.split(","), port: of("port")?.split(",") }
  const count = Math.max(1, lists.host?.length ?? lists.address?.length ?? before.length)
  for (const [name, list] of Object.entries({ hostaddr: lists.address, port: lists.port })) {
    if (list !== undefined && list.length !== count && !(name === "port" && list.length === 1)) {
      return fail(`has ${count} hosts, and ${list.length} in ${name}`)
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
