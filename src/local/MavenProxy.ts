import { Config, Effect, Option } from "effect"

/** A proxy variable; lower case wins, as in most programs. Empty counts as unset. */
const variable = (name: string) =>
  Config.string(name.toLowerCase()).pipe(
    Config.orElse(() => Config.string(name)),
    Config.option,
    Effect.map(Option.filter((value) => value !== "")),
    Effect.orElseSucceed(() => Option.none<string>())
  )

const address = (scheme: "http" | "https", value: string) => {
  const { hostname, port, protocol } = new URL(value.includes("://") ? value : `http://${value}`)
  const flags = [
    `-D${scheme}.proxyHost=${hostname}`,
    `-D${scheme}.proxyPort=${port || (protocol === "https:" ? 443 : 80)}`
  ]
  return hostname === "" || protocol.startsWith("socks") ? [] : flags
}

/** Converts NO_PROXY to Java's list: separated by bars, with `*.` for a leading dot. */
const exceptions = (value: string) => {
  const hosts = value.split(",").map((host) => host.trim()).filter((host) => host !== "")
  return [`-Dhttp.nonProxyHosts=${hosts.map((host) => host.replace(/^\./, "*.")).join("|")}`]
}

/**
 * Maven flags for the proxies of the environment, which Maven does not read itself. They contain no user or password, because
 * other users can see a command line; ~/.m2/settings.xml is the place for those.
 */
export const flags = Effect.gen(function*() {
  const all = yield* variable("ALL_PROXY")
  const http = Option.orElse(yield* variable("HTTP_PROXY"), () => all)
  const https = Option.orElse(yield* variable("HTTPS_PROXY"), () => all)
  const none = yield* variable("NO_PROXY")
  const proxies = yield* Effect.orElseSucceed(
    Effect.try(() => [
      ...Option.match(http, { onNone: () => [], onSome: (value) => address("http", value) }),
      ...Option.match(https, { onNone: () => [], onSome: (value) => address("https", value) })
    ]),
    () => []
  )
  if (proxies.length === 0) return []
  return [
    ...proxies,
    ...Option.match(none, { onNone: () => [], onSome: exceptions }),
    // Maven 3.9 and newer reads the flags above only with this
    "-Daether.connector.http.useSystemProperties=true"
  ]
})
