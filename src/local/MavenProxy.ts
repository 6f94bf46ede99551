import { Config, Effect, Option } from "effect"

/** `http_proxy` and the like: as most programs read them, the lower case first. Empty is unset. */
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

/** Java's list has bars between, and a star where ours has a leading dot. */
const exceptions = (value: string) => {
  const hosts = value.split(",").map((host) => host.trim()).filter((host) => host !== "")
  return [`-Dhttp.nonProxyHosts=${hosts.map((host) => host.replace(/^\./, "*.")).join("|")}`]
}

/**
 * The proxies of the environment, which Maven does not read, as its flags. A user and a password are left out: others
 * see a command line. What they are for, ~/.m2/settings.xml says.
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
    // of Maven 3.9 and newer: otherwise it takes proxies from its settings only
    "-Daether.connector.http.useSystemProperties=true"
  ]
})
