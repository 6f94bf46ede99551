import { assert, describe, it } from "@effect/vitest"
import { Either, Redacted } from "effect"
import * as RedisUrl from "../../../src/infra/redis/RedisUrl.js"
import { showUrl } from "../../../src/infra/runtime/Setting.js"

const read = (text: string) => RedisUrl.parse(Either.getOrThrow(RedisUrl.setting(text)))
const problem = (text: string) => Either.getOrThrow(Either.flip(RedisUrl.setting(text)))

describe("RedisUrl", () => {
  it("the URL of a server", () => {
    assert.deepStrictEqual(read("redis://h"), {
      scheme: "redis",
      tls: false,
      password: undefined,
      places: "h",
      host: "h",
      sentinels: undefined
    })
    assert.deepInclude(read("rediss://u:p%40ss@[::1]:6380/2"), {
      scheme: "rediss",
      tls: true,
      password: "p@ss",
      places: "[::1]:6380",
      host: "::1"
    })
  })

  it("the URL of Sentinels", () => {
    assert.deepStrictEqual(read("redis+sentinel://a,b:1/main"), {
      scheme: "redis+sentinel",
      tls: false,
      password: undefined,
      places: "a,b:1",
      host: undefined,
      sentinels: {
        addresses: [{ host: "a", port: 26_379 }, { host: "b", port: 1 }],
        password: undefined,
        name: "main",
        user: undefined,
        database: 0
      }
    })
    const full = read("REDISS+sentinel://u%2F:p@:%3A@[::1],[::2]:5/the%20main/12?sentinel_password=a%26b+c=")
    assert.deepInclude(full, { scheme: "rediss+sentinel", tls: true, password: "p@::", places: "[::1],[::2]:5" })
    assert.deepStrictEqual(full.sentinels, {
      addresses: [{ host: "::1", port: 26_379 }, { host: "::2", port: 5 }],
      password: "a&b+c=",
      name: "the main",
      user: "u/",
      database: 12
    })
  })

  it("says what is wrong, without a secret", () => {
    const secret = "secret-word"
    for (
      const [text, said] of [
        ["", /^is not a URL that starts with redis:\/\/ or rediss:\/\/, nor one of Sentinels: redis\+sentinel:\/\//],
        [`http://u:${secret}@h`, /^is not a URL that starts with/],
        [`redis://u:${secret}@h:port`, /^is not a URL that starts with/],
        [`redis://u:${secret}%zz@h`, /^has a % without two hexadecimal digits/],
        [`redis+sentinel://u:${secret}%zz@h/main`, /^has a % without two hexadecimal digits/],
        [`redis+sentinel://h/main?sentinel_password=${secret}%zz`, /^has a % without two hexadecimal digits/],
        [`redis+sentinel://u:${secret}@h`, /^is not redis\+sentinel:\/\/\[user:password@\]host:port,host:port\/name/],
        [`redis+sentinel://u:${secret}@h/`, /^is not redis\+sentinel/],
        [`redis+sentinel://u:${secret}@h/main/x`, /^is not redis\+sentinel/],
        [`redis+sentinel://u:${secret}@/main`, /^is not redis\+sentinel/],
        // a / in a password must be %2F: this would be a host and a name
        [`redis+sentinel://u:12345/${secret}@h`, /^is not redis\+sentinel/],
        [`redis+sentinel://u:${secret}@h,/main`, /^has a Sentinel that is not host:port/],
        [`redis+sentinel://u:${secret}@h:99999/main`, /^has a Sentinel that is not host:port/],
        [`redis+sentinel://::1/main`, /^has a Sentinel that is not host:port/],
        [`redis+sentinel://h/main?sentinel_pasword=${secret}`, /^has an unknown parameter: the only one/]
      ] as const
    ) {
      assert.match(problem(text), said, text)
      assert.notInclude(problem(text), secret)
    }
    const shown = showUrl(Redacted.make(`redis+sentinel://u:${secret}@a,b/main?sentinel_password=${secret}`))
    assert.strictEqual(shown, "redis+sentinel://u:<redacted>@a,b/main?sentinel_password=<redacted>")
  })
})
