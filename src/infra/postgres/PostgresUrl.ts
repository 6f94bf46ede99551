import { Either, Option, Redacted } from "effect"
import { userInfo } from "node:os"
import type { Parse } from "../runtime/Setting.js"
import type { Host } from "./PostgresUrlParts.js"
import { fail, form, hostsOf, ignored, known, Problem, split, unsupported } from "./PostgresUrlParts.js"

const sslModes = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] as const
const sessions = ["any", "read-write", "read-only", "primary", "standby", "prefer-standby"] as const
const bindings = ["disable", "prefer", "require"] as const

/** Required kind of session. `prefer-read-write` is the default for several hosts without `target_session_attrs`. */
export type WantedSession = (typeof sessions)[number] | "prefer-read-write"

/** TLS settings. Paths name files in PEM format. */
export interface Tls {
  readonly mode: (typeof sslModes)[number]
  /** Path of a file, or `system` for the certificate authorities that Node trusts. */
  readonly rootCert?: string
  readonly crl?: string
  readonly cert?: string
  readonly key?: string
  readonly keyPassword?: string
  readonly minVersion?: string
  readonly maxVersion?: string
  /** Starts with TLS without asking the server first (PostgreSQL 17). */
  readonly direct: boolean
}

/** A parsed connection URL with all defaults. */
export interface Target {
  readonly hosts: readonly [Host, ...ReadonlyArray<Host>]
  readonly user: string
  readonly password: string | undefined
  readonly database: string
  readonly tls: Tls
  readonly channelBinding: (typeof bindings)[number]
  readonly session: WantedSession
  /** True when the hosts are tried in random order. */
  readonly shuffled: boolean
  readonly applicationName: string | undefined
  /** Passed to the server unchanged. */
  readonly options: string | undefined
  /** Time limit for one host. */
  readonly connectTimeoutMillis: number | undefined
  readonly keepAlive: boolean
  readonly keepAliveMillis: number
}

const read = (text: string): Target => {
  const parts = split(text)
  const parameters = new Map<string, string>()
  // an @ this late may mean that a ? in the password has started the parameters
  const torn = parts.query.some((pair) => pair.join("").includes("@"))
  for (const [name, value] of parts.query) {
    const shown = !torn && /^[A-Za-z][\w.-]{0,40}$/.test(name) ? name : "(its name is not shown)"
    if (unsupported.has(name)) return fail(`has parameter ${shown}, which is not supported`)
    if (!known.has(name) && !ignored.has(name)) return fail(`has an unknown parameter: ${shown}`)
    parameters.set(name, value)
  }
  const of = (name: string) => parameters.get(name) || undefined
  const oneOf = <A extends string>(name: string, values: ReadonlyArray<A>, fallback: A): A => {
    const value = of(name)
    if (value === undefined) return fallback
    return values.find((one) => one === value) ?? fail(`has a ${name} that is not one of ${values.join(", ")}`)
  }
  const whole = (name: string) => {
    const value = of(name)
    if (value === undefined) return undefined
    return /^-?\d{1,9}$/.test(value) ? Number(value) : fail(`has a ${name} that is not a whole number`)
  }
  if (oneOf("gssencmode", ["disable", "prefer", "require"], "disable") === "require") {
    return fail("has gssencmode=require, which is not supported")
  }
  if (!/^(auto|utf-?8|unicode)$/i.test(of("client_encoding") ?? "auto")) {
    return fail("has a client_encoding that is not UTF8")
  }

  const system = of("sslrootcert") === "system"
  const mode = oneOf("sslmode", sslModes, of("ssl") === "true" ? "require" : system ? "verify-full" : "prefer")
  if (system && mode !== "verify-full") return fail(`has sslrootcert=system, which requires sslmode=verify-full`)
  if (mode === "verify-ca" && of("sslrootcert") === undefined) {
    return fail("has sslmode=verify-ca, which requires sslrootcert, a file of certificates")
  }
  if ((of("sslcert") === undefined) !== (of("sslkey") === undefined)) {
    return fail("has only one of sslcert and sslkey")
  }
  const direct = oneOf("sslnegotiation", ["postgres", "direct"], "postgres") === "direct"
  if (direct && ["disable", "allow", "prefer"].includes(mode)) {
    return fail("has sslnegotiation=direct, which requires sslmode=require or stricter")
  }
  const versions = ["TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"] as const
  const files = {
    rootCert: of("sslrootcert"),
    crl: of("sslcrl"),
    cert: of("sslcert"),
    key: of("sslkey"),
    keyPassword: of("sslpassword"),
    minVersion: of("ssl_min_protocol_version") && oneOf("ssl_min_protocol_version", versions, "TLSv1.2"),
    maxVersion: of("ssl_max_protocol_version") && oneOf("ssl_max_protocol_version", versions, "TLSv1.3")
  }

  const hosts = hostsOf(parts, of)
  const user = of("user") ?? parts.user ?? userInfo().username
  const timeout = whole("connect_timeout") ?? 0
  const idle = whole("keepalives_idle") ?? 0
  return {
    hosts,
    user,
    password: of("password") ?? parts.password,
    database: of("dbname") ?? (parts.database || user),
    tls: {
      mode,
      direct,
      ...Object.fromEntries(Object.entries(files).filter(([, value]) => value !== undefined))
    },
    channelBinding: oneOf("channel_binding", bindings, "disable"),
    session: oneOf<WantedSession>("target_session_attrs", sessions, hosts.length > 1 ? "prefer-read-write" : "any"),
    shuffled: oneOf("load_balance_hosts", ["disable", "random"], "disable") === "random",
    applicationName: of("application_name") ?? of("fallback_application_name"),
    options: of("options"),
    connectTimeoutMillis: timeout > 0 ? timeout * 1_000 : undefined,
    keepAlive: whole("keepalives") !== 0,
    keepAliveMillis: idle > 0 ? idle * 1_000 : 5_000
  }
}

/**
 * Reads a connection URL as libpq does: `postgres://user:password@host:port,host:port/database?parameter=value`.
 *
 * Left is the problem, without any value of the URL. Differences from libpq: a missing host is `localhost`, several hosts
 * without `target_session_attrs` prefer the writable one, and no file in the home folder is read.
 * Source: https://www.postgresql.org/docs/current/libpq-connect.html
 */
export const parse = (text: string): Either.Either<Target, string> =>
  Either.try({
    try: () => read(text),
    catch: (problem) => problem instanceof Problem ? problem.text : "is not a URL"
  })

/** Parser of a setting with a connection URL. */
export const setting: Parse<Redacted.Redacted> = (text) => {
  const trimmed = text.trim()
  return Either.map(parse(trimmed), () => Redacted.make(trimmed))
}

/** The servers of a URL for the log: `host:port`, separated by commas. */
export const places = (url: Redacted.Redacted): string =>
  Either.match(parse(Redacted.value(url)), {
    onLeft: () => "an unknown address",
    onRight: ({ hosts }) => hosts.map(({ host, port }) => `${host}:${port}`).join(",")
  })

/** The URL for operators, without passwords. */
export const show = (url: Redacted.Redacted): string => {
  const [, scheme, userinfo, hosts, database, query] = form.exec(Redacted.value(url)) ?? []
  // an @ after the host may belong to a password without percent-encoding
  if (scheme === undefined || `${hosts}${database ?? ""}${query ?? ""}`.includes("@")) return "<redacted>"
  const parameters = query?.split("&").map((pair) => {
    const [name = ""] = pair.split("=", 1)
    const decoded = Option.getOrElse(Option.liftThrowable(decodeURIComponent)(name), () => "password")
    return /password/i.test(decoded) ? `${name}=<redacted>` : pair
  })
  return [
    scheme,
    userinfo === undefined ? "" : `${userinfo.replace(/:.*$/s, ":<redacted>")}@`,
    hosts,
    database === undefined ? "" : `/${database}`,
    parameters === undefined ? "" : `?${parameters.join("&")}`
  ].join("")
}
