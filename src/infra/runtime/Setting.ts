import { Config, ConfigError, Duration, Effect, Either, Option, Redacted, Schema } from "effect"
import { readFileSync } from "node:fs"

/** An environment variable: name, meaning, default and parser. */
export interface Setting<A> {
  readonly name: string
  readonly about: string
  readonly default: string
  readonly example: string
  /** Right is the value. Left is the problem of the text, e.g. `is empty`. */
  readonly parse: Parse<A>
  /** Variable that names a file with the text, instead of this variable. */
  readonly file?: string
  /** The value for operators, without secrets. */
  readonly show: (value: A) => string
}

export type Parse<A> = (text: string) => Either.Either<A, string>

/** Address of a server. */
export interface Address {
  readonly host: string
  readonly port: number
}

/** A problem of a variable, and what it could have instead. */
export type Problem = ConfigProblems["problems"][number]

/** All problems of the environment together. */
export class ConfigProblems extends Schema.TaggedError<ConfigProblems>()("ConfigProblems", {
  problems: Schema.Array(Schema.Struct({ variable: Schema.String, problem: Schema.String, example: Schema.String }))
}) {
  static readonly one = (variable: string, problem: string, example = "") =>
    new ConfigProblems({ problems: [{ variable, problem, example }] })

  override get message() {
    const lines = this.problems.map(({ example, problem, variable }) =>
      `  ${variable} ${problem}, e.g. ${variable}=${example}`
    )
    return ["The configuration has problems:", ...lines].join("\n")
  }
}

export const setting = <A>(
  name: string,
  parse: Parse<A>,
  options: {
    readonly about: string
    readonly default: string
    readonly example?: string
    readonly file?: string
    readonly show?: (value: A) => string
  }
): Setting<A> => ({ name, parse, example: options.default, show: String, ...options })

export type Values<S extends Record<string, Setting<any>>> = {
  readonly [K in keyof S]: S[K] extends Setting<infer A> ? A : never
}

/**
 * The trimmed text of an environment variable. An empty variable counts as unset: Compose, Kubernetes and CI systems set
 * variables without a value to the empty text.
 */
export const given = (name: string): Config.Config<Option.Option<string>> =>
  Config.map(
    Config.withDefault(Config.string(name), ""),
    (text) => Option.liftPredicate(text.trim(), (trimmed) => trimmed !== "")
  )

const readSetting = <A>({ default: fallback, file, name, parse }: Setting<A>) => {
  const own = (text: string) => Either.mapLeft(parse(text), (problem) => ConfigError.InvalidData([name], problem))
  if (file === undefined) return Config.mapOrFail(given(name), (text) => own(Option.getOrElse(text, () => fallback)))
  const ofFile = (path: string) =>
    Either.try({ try: () => readFileSync(path, "utf8").trim(), catch: (cause) => cause as Error }).pipe(
      Either.mapLeft(({ message }) => `names a file that cannot be read: ${message}`),
      Either.flatMap((text) => Either.mapLeft(parse(text), (problem) => `names ${path}, whose content ${problem}`)),
      Either.mapLeft((problem) => ConfigError.InvalidData([file], problem))
    )
  return Config.mapOrFail(Config.zip(given(name), given(file)), ([text, path]) => {
    if (Option.isNone(path)) return own(Option.getOrElse(text, () => fallback))
    return Option.isNone(text)
      ? ofFile(path.value)
      : Either.left(ConfigError.InvalidData([name], `is set beside ${file}: set one of them`))
  })
}

const flatten = (
  error: ConfigError.ConfigError
): ReadonlyArray<{ readonly variable: string; readonly problem: string }> =>
  error._op === "And" || error._op === "Or"
    ? [...flatten(error.left), ...flatten(error.right)]
    : [{ variable: error.path.join("_"), problem: error.message }]

/** Reads these settings and no other variable. Fails with all problems together. */
export const load = <S extends Record<string, Setting<any>>>(settings: S): Effect.Effect<Values<S>, ConfigProblems> =>
  (Config.all(
    Object.fromEntries(Object.entries(settings).map(([key, setting]) => [key, readSetting(setting)]))
  ) as Config.Config<
    Values<S>
  >).pipe(
    Effect.mapError((error) => {
      const examples = new Map(Object.values(settings).map(({ example, name }) => [name, example]))
      return new ConfigProblems({
        problems: flatten(error).map((found) => ({ ...found, example: examples.get(found.variable) ?? "" }))
      })
    })
  )

export const text: Parse<string> = (text) => text.trim() === "" ? Either.left("is empty") : Either.right(text.trim())

/** A token of at least 16 characters. */
export const token: Parse<Redacted.Redacted> = (text) =>
  text.trim().length < 16 ? Either.left("is shorter than 16 characters") : Either.right(Redacted.make(text.trim()))

/** A secret of any form. */
export const secret: Parse<Redacted.Redacted> = (text) =>
  text.trim() === "" ? Either.left("is empty") : Either.right(Redacted.make(text.trim()))

/** A setting that may be empty: none. */
export const optional = <A>(parse: Parse<A>): Parse<Option.Option<A>> => (text) =>
  text.trim() === "" ? Either.right(Option.none()) : Either.map(parse(text), Option.some)

/** A setting that is empty by default. */
export const optionalSetting = <A>(
  name: string,
  parse: Parse<A>,
  { show = String, ...options }: {
    readonly about: string
    readonly example?: string
    readonly show?: (value: A) => string
  }
): Setting<Option.Option<A>> => setting(name, optional(parse), { ...options, default: "", show: showOptional(show) })

/** The trimmed items of a comma-separated text, without empty ones. */
const items = (text: string) => text.split(",").map((item) => item.trim()).filter((item) => item !== "")

/** Parses `key=value,key=value` with percent-encoded values. */
export const pairs: Parse<Redacted.Redacted<Readonly<Record<string, string>>>> = (text) => {
  const pairs = items(text).map((item) => /^([^=\s]+)\s*=\s*(.*)$/.exec(item))
  return Either.try({
    try: () => Redacted.make(Object.fromEntries(pairs.map((pair) => [pair![1]!, decodeURIComponent(pair![2]!)]))),
    catch: () => "is not a list of key=value"
  })
}

export const url = (...protocols: ReadonlyArray<string>): Parse<Redacted.Redacted> => (text) =>
  URL.canParse(text) && protocols.includes(new URL(text).protocol)
    ? Either.right(Redacted.make(text))
    : Either.left(`is not a URL that starts with ${protocols.map((protocol) => `${protocol}//`).join(" or ")}`)

const loopback = /^(localhost|127(\.\d+){3}|\[::1\])$/

/** URL that gets a secret: without encryption only on this host, and without a user. */
export const tokenUrl: Parse<Redacted.Redacted> = (text) =>
  Either.filterOrLeft(
    url("https:", "http:")(text),
    () => {
      const { hostname, password, protocol, username } = new URL(text)
      return (protocol === "https:" || loopback.test(hostname)) && username + password === ""
    },
    () => "is not a URL that starts with https:// and has no user"
  )

export const list: Parse<ReadonlyArray<string>> = (text) =>
  Either.liftPredicate(items(text), (items) => items.length > 0, () => "has no item")

export const brokers: Parse<ReadonlyArray<string>> = (text) =>
  Either.filterOrLeft(
    list(text),
    (items) => items.every((item) => Either.isRight(address(item))),
    () => "is not a list of host:port"
  )

export const port: Parse<number> = (text) =>
  /^\d{1,5}$/.test(text) && Number(text) <= 65_535
    ? Either.right(Number(text))
    : Either.left("is not a port (0 to 65535)")

export const address: Parse<Address> = (text) => {
  const [, v6, name, digits] = /^(?:\[([0-9a-fA-F:.]+)\]|([^\s:/[\]]+)):([^:/]*)$/.exec(text) ?? []
  return digits === undefined
    ? Either.left("is not host:port")
    : Either.map(port(digits), (port) => ({ host: v6 ?? name!, port }))
}

export const integer = (min: number, max: number): Parse<number> => (text) =>
  /^\d+$/.test(text) && Number(text) >= min && Number(text) <= max
    ? Either.right(Number(text))
    : Either.left(`is not a whole number from ${min} to ${max}`)

export const flag: Parse<boolean> = (text) =>
  text === "true" ? Either.right(true) : text === "false" ? Either.right(false) : Either.left("is not true or false")

const millis = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const

export const duration = (min: Duration.DurationInput): Parse<Duration.Duration> => (text) => {
  const [, amount, unit] = /^(\d+(?:\.\d+)?) *(ms|s|m|h|d)$/.exec(text) ?? []
  if (amount === undefined) return Either.left("is not a duration: a number and ms, s, m, h or d")
  const value = Duration.millis(Number(amount) * millis[unit as keyof typeof millis])
  return Duration.lessThan(value, min)
    ? Either.left(`is shorter than ${showDuration(Duration.decode(min))}`)
    : Either.right(value)
}

export const oneOf = <A extends string>(...values: ReadonlyArray<A>): Parse<A> => (text) =>
  values.includes(text as A) ? Either.right(text as A) : Either.left(`is not one of ${values.join(", ")}`)

/** Like `oneOf`, in upper or lower case. */
export const word = <A extends string>(...values: ReadonlyArray<A>): Parse<A> => (text) =>
  oneOf(...values)(values.find((value) => value.toLowerCase() === text.toLowerCase()) ?? text)

export const showDuration = (duration: Duration.Duration) => Duration.format(duration)
/** Names of URL parameters whose values are secrets. */
const secretName = /pass|pwd|secret|token|key|auth|credential/i
const decoded = (text: string) => Either.getOrElse(Either.try(() => decodeURIComponent(text)), () => text)

/** A URL without its password and without the values of parameters with secret names. */
export const showUrl = (url: Redacted.Redacted) =>
  Redacted.value(url)
    // the last @ before the end of the host ends the password
    .replace(/(:\/\/[^:@/?#]*):[^/?#]*@/, "$1:<redacted>@")
    .replace(
      /([?&])([^=&#]*)=[^&#]*/g,
      (parameter, before: string, name: string) =>
        secretName.test(decoded(name)) ? `${before}${name}=<redacted>` : parameter
    )
export const showOptional = <A>(show: (value: A) => string) => Option.match({ onNone: () => "", onSome: show })
export const showAddress = ({ host, port }: Address) => `${host.includes(":") ? `[${host}]` : host}:${port}`
