import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, Duration, Effect, Either, FastCheck as fc, Option, Redacted } from "effect"
import * as Setting from "../../../src/infra/runtime/Setting.js"

/** Checks texts against their value or problem. */
const reads = <A>(
  name: string,
  parse: Setting.Parse<A>,
  cases: {
    readonly values: ReadonlyArray<readonly [string, A]>
    readonly problem: string
    readonly bad: ReadonlyArray<string>
  }
) =>
  it(name, () => {
    for (const [text, value] of cases.values) assert.deepStrictEqual(parse(text), Either.right(value), text)
    for (const text of cases.bad) assert.deepStrictEqual(parse(text), Either.left(cases.problem), text)
  })

const plain = <A>(parse: Setting.Parse<Redacted.Redacted<A>>): Setting.Parse<A> => (text) =>
  Either.map(parse(text), Redacted.value)

describe("Setting", () => {
  reads("text", Setting.text, {
    values: [["a", "a"], [" a b ", "a b"]],
    problem: "is empty",
    bad: ["", " ", "\t\n"]
  })
  reads("flag", Setting.flag, {
    values: [["true", true], ["false", false]],
    problem: "is not true or false",
    bad: ["", "TRUE", "1", "0", "yes", " true"]
  })
  reads("integer", Setting.integer(2, 500), {
    values: [["2", 2], ["500", 500], ["010", 10]],
    problem: "is not a whole number from 2 to 500",
    bad: ["", "1", "501", "-2", "+2", "2.0", "1e2", "0x10", "two", " 2", "99999999999999999999"]
  })
  reads("port", Setting.port, {
    values: [["0", 0], ["8081", 8081], ["65535", 65535]],
    problem: "is not a port (0 to 65535)",
    bad: ["", "65536", "-1", "http", "80.0", " 80", "000080"]
  })
  reads("oneOf", Setting.oneOf("a", "b"), {
    values: [["a", "a"], ["b", "b"]],
    problem: "is not one of a, b",
    bad: ["", "A", "c", "a,b", " a"]
  })
  reads("word", Setting.word("Info", "None"), {
    values: [["Info", "Info"], ["info", "Info"], ["NONE", "None"]],
    problem: "is not one of Info, None",
    bad: ["", "Inf", "Information"]
  })
  reads("list", Setting.list, {
    values: [
      ["a", ["a"]],
      ["a, b ,c", ["a", "b", "c"]],
      ["a,", ["a"]],
      [",a", ["a"]],
      ["a,,b", ["a", "b"]],
      ["a, ,b", ["a", "b"]]
    ],
    problem: "has no item",
    bad: ["", " ", ",", " , "]
  })
  reads("brokers", Setting.brokers, {
    values: [["a:1", ["a:1"]], ["a:1, b:2,[::1]:3", ["a:1", "b:2", "[::1]:3"]], ["a:1,", ["a:1"]]],
    problem: "is not a list of host:port",
    bad: ["a", "a:1,b", "a:x", ":1", "a:1 b:2", "kafka://a:1", "a:65536"]
  })
  reads("brokers, none", Setting.brokers, { values: [], problem: "has no item", bad: ["", ","] })
  reads("pairs", plain(Setting.pairs), {
    values: [["a=b", { a: "b" }], ["a=b%20c, d = e=f ,g=", { a: "b c", d: "e=f", g: "" }], ["a=b,", { a: "b" }]],
    problem: "is not a list of key=value",
    bad: ["a", "=b", "a=b,c", "a=%zz", "a b=c"]
  })
  reads("url", plain(Setting.url("redis:", "rediss:")), {
    values: [["redis://h", "redis://h"], ["rediss://u:p@h:1/2", "rediss://u:p@h:1/2"]],
    problem: "is not a URL that starts with redis:// or rediss://",
    bad: ["", "h:6379", "http://h", "redis//h", "redis://h:port"]
  })
  reads("optional", Setting.optional(Setting.flag), {
    values: [["", Option.none()], [" ", Option.none()], ["true", Option.some(true)]],
    problem: "is not true or false",
    bad: ["1"]
  })

  describe("address", () => {
    reads("host and port", Setting.address, {
      values: [
        ["0.0.0.0:8081", { host: "0.0.0.0", port: 8081 }],
        ["localhost:0", { host: "localhost", port: 0 }],
        ["[::1]:8081", { host: "::1", port: 8081 }],
        ["[fe80::1]:1", { host: "fe80::1", port: 1 }]
      ],
      problem: "is not host:port",
      bad: ["", "8081", ":8081", "localhost", "http://localhost:8081", "a b:8081", "a:b:8081", "::1:8081"]
    })

    it("a wrong port has the problem of a port", () => {
      for (const text of ["localhost:", "localhost:http", "localhost:65536", "localhost:-1", "localhost: 80"]) {
        assert.deepStrictEqual(Setting.address(text), Either.left("is not a port (0 to 65535)"), text)
      }
    })

    it("is shown in the form that can be parsed", () => {
      for (const text of ["0.0.0.0:8081", "[::1]:8081"]) {
        assert.strictEqual(Setting.showAddress(Either.getOrThrow(Setting.address(text))), text)
      }
    })
  })

  describe("duration", () => {
    reads("a number and a unit", Setting.duration("10 millis"), {
      values: [
        ["10ms", Duration.millis(10)],
        ["1s", Duration.seconds(1)],
        ["0.5s", Duration.millis(500)],
        ["1.5 m", Duration.seconds(90)],
        ["2h", Duration.hours(2)],
        ["7d", Duration.days(7)],
        ["36500d", Duration.days(36_500)]
      ],
      problem: "is not a duration: a number and ms, s, m, h or d",
      bad: [
        "",
        "5",
        "s",
        "5 seconds",
        "5S",
        "-5s",
        "+5s",
        "1e3s",
        ".5s",
        "5.s",
        "5,5s",
        "1m30s",
        " 5s",
        "5s ",
        "Infinity",
        "1w"
      ]
    })

    it("a problem of a short duration gives the minimum", () => {
      for (const text of ["0s", "9ms", "0.0001s"]) {
        assert.deepStrictEqual(Setting.duration("10 millis")(text), Either.left("is shorter than 10ms"), text)
      }
      assert.deepStrictEqual(Setting.duration("1 second")("999ms"), Either.left("is shorter than 1s"))
    })

    it("never throws for any size", () => {
      const parse = Setting.duration("10 millis")
      for (const text of ["0.0000001s", "0.0000000000001d", `${"9".repeat(30)}d`, `${"9".repeat(400)}ms`]) {
        Either.match(parse(text), { onLeft: (problem) => assert.notInclude(problem, text), onRight: Duration.toMillis })
      }
      fc.assert(
        fc.property(fc.double({ noNaN: true, min: 0 }), fc.constantFrom("ms", "s", "m", "h", "d"), (n, unit) => {
          parse(`${n}${unit}`)
          parse(`${n.toFixed(20)}${unit}`)
        })
      )
    })
  })

  describe("the text for operators", () => {
    const show = (text: string) => Setting.showUrl(Redacted.make(text))

    it("shows a URL without its password", () => {
      const cases = {
        "postgres://localhost:5432/db": "postgres://localhost:5432/db",
        "postgres://user@localhost/db": "postgres://user@localhost/db",
        "postgres://user:hunter2@localhost:5432/db": "postgres://user:<redacted>@localhost:5432/db",
        "redis://:hunter2@localhost": "redis://:<redacted>@localhost",
        "postgres://user:@localhost/db": "postgres://user:<redacted>@localhost/db",
        "postgres://user:a:hunter2@localhost/db": "postgres://user:<redacted>@localhost/db",
        "http://localhost:4318/a:b@c": "http://localhost:4318/a:b@c"
      }
      for (const [url, shown] of Object.entries(cases)) assert.strictEqual(show(url), shown)
    })

    it("hides a password with special characters", () => {
      for (
        const password of [
          "hunt@er2",
          "@hunter2",
          "hunter2@",
          "p@ss@hunter2",
          "hunt%40er2",
          "hunt$er2",
          "hun:ter@2",
          "::@@::"
        ]
      ) {
        const url = `postgres://user:${password}@db.example:5432/payments`
        assert.isTrue(URL.canParse(url), url)
        assert.strictEqual(show(url), "postgres://user:<redacted>@db.example:5432/payments", url)
      }
    })

    it("hides a password in a parameter", () => {
      for (
        const url of [
          "postgres://db/payments?user=u&password=hunter2",
          "redis://r?password=hunter2&db=1",
          "postgres://db/p?PASSWORD=hunter2",
          "postgres://db/p?p%61ssword=hunter2",
          "https://collector/v1?api_key=hunter2",
          "https://collector/v1?a=b&access_token=hunter2"
        ]
      ) {
        assert.notInclude(show(url), "hunter2")
      }
    })

    it("hides every password that a URL can hold", () =>
      fc.assert(fc.property(fc.string({ minLength: 1 }), (noise) => {
        const url = `postgres://user:SECRET${noise}SECRET@db.example/payments`
        // a slash ends the host, so the rest is no password
        fc.pre(URL.canParse(url) && new URL(url).host === "db.example")
        assert.notInclude(show(url), "SECRET")
      })))
  })

  describe("load", () => {
    const settings = {
      size: Setting.setting("POOL_SIZE", Setting.integer(1, 10), { about: "Size.", default: "5" }),
      url: Setting.setting("SERVER_URL", Setting.url("http:"), {
        about: "Server.",
        default: "http://localhost",
        example: "http://example"
      }),
      name: Setting.setting("NAME", Setting.text, { about: "Name.", default: "x" }),
      names: Setting.setting("NAMES", Setting.list, { about: "Names.", default: "x" })
    }
    const load = (environment: Record<string, string>) =>
      Setting.load(settings).pipe(
        Effect.withConfigProvider(ConfigProvider.fromMap(new Map(Object.entries(environment)), { pathDelim: "_" }))
      )

    it.effect("an unset variable has its default", () =>
      Effect.gen(function*() {
        const { name, size, url } = yield* load({ NAME: "n" })
        assert.deepStrictEqual([name, size, Redacted.value(url)], ["n", 5, "http://localhost"])
      }))

    it.effect("reports all problems at once, each with its variable and an example, without the value", () =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(load({ POOL_SIZE: "hunter2", SERVER_URL: "ftp://u:hunter2@h", NAMES: "," }))
        assert.deepStrictEqual([...error.problems].sort((a, b) => a.variable < b.variable ? -1 : 1), [
          { variable: "NAMES", problem: "has no item", example: "x" },
          { variable: "POOL_SIZE", problem: "is not a whole number from 1 to 10", example: "5" },
          { variable: "SERVER_URL", problem: "is not a URL that starts with http://", example: "http://example" }
        ])
        assert.include(error.message, "  POOL_SIZE is not a whole number from 1 to 10, e.g. POOL_SIZE=5")
        assert.notInclude(error.message, "hunter2")
      }))
  })
})
