import { SqlClient } from "@effect/sql"
import { assert, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"
import * as PgTest from "../harness/PgTest.js"
import type { Asked } from "./Harness.js"
import { services, start, token } from "./Harness.js"

const change = { "x-payments-console": "1" }
const none = { bearer: null } as const

/** The cookie of an answer, as a browser sends it back. */
const cookieOf = (headers: { readonly "set-cookie"?: ReadonlyArray<string> | undefined }) =>
  headers["set-cookie"]?.[0]?.split(";")[0] ?? ""

layer(services.pipe(Layer.provideMerge(PgTest.layer)), { timeout: "60 seconds", excludeTestServices: true })(
  "the session of the console",
  (it) => {
    it.scoped("a token signs in: the cookie is out of reach of scripts and other sites, and ends with the sign-out", () =>
      Effect.gen(function*() {
        const { ask } = yield* start()
        const before = yield* ask("/api/session", none)
        assert.deepInclude(before.json, { signed_in: false, name: null, scopes: [], local: false, version: "1.2.3" })
        const signedIn = yield* ask("/api/session", { ...none, body: { token: "token-of-ann" }, headers: change })
        assert.deepInclude(signedIn.json, {
          signed_in: true,
          name: "ann",
          scopes: ["payments:settle", "operations:read", "operations:change"]
        })
        const [set] = signedIn.headers["set-cookie"]!
        assert.match(set!, /^payments-console=[\w-]{43}; Max-Age=43200; Path=\/; HttpOnly; SameSite=Strict$/)
        const cookie = cookieOf(signedIn.headers)
        const as = (asked: Asked = {}) => ({ ...none, ...asked, headers: { cookie, ...asked.headers } })
        assert.deepInclude((yield* ask("/api/session", as())).json, { name: "ann" })
        assert.strictEqual((yield* ask("/api/outbox/blocked", as())).status, 200)
        const out = yield* ask("/api/session", as({ method: "DELETE", headers: change }))
        assert.deepInclude(out.json, { signed_in: false })
        assert.match(out.headers["set-cookie"]![0]!, /^payments-console=; Max-Age=0;/)
        assert.strictEqual((yield* ask("/api/outbox/blocked", as())).status, 401)
      }))

    it.scoped("a session changes only with the header that a form cannot send, and only for its own site", () =>
      Effect.gen(function*() {
        const { ask, port } = yield* start()
        const { headers } = yield* ask("/api/session", { ...none, body: { token: "token-of-ann" }, headers: change })
        const retry = (extra: Readonly<Record<string, string>>) =>
          ask("/api/outbox/retry", {
            ...none,
            body: { reason: "a test", event_ids: ["1"], dry_run: true },
            headers: { cookie: cookieOf(headers), ...extra }
          })
        assert.deepInclude(yield* retry({}), { status: 403 })
        assert.deepInclude(yield* retry({ ...change, origin: "https://evil.example" }), { status: 403 })
        assert.deepInclude(yield* retry({ ...change, origin: "null" }), { status: 403 })
        for (const site of ["cross-site", "same-site", "none"]) {
          assert.deepInclude(yield* retry({ ...change, "sec-fetch-site": site }), { status: 403 }, site)
        }
        const own = { ...change, origin: `http://127.0.0.1:${port}`, "sec-fetch-site": "same-origin" }
        assert.deepInclude(yield* retry(own), { status: 200 })
        // a cookie of another session, and a token beside a cookie
        assert.deepInclude(yield* retry({ ...own, cookie: "payments-console=guessed" }), { status: 401 })
        assert.deepInclude(yield* retry({ ...own, authorization: "Bearer wrong" }), { status: 401 })
      }))

    it.scoped("a token without a name asks who signs in; a wrong one is refused, once a second for one address", () =>
      Effect.gen(function*() {
        const { ask } = yield* start()
        const signIn = (body: unknown) => ask("/api/session", { ...none, body, headers: change })
        const nameless = yield* signIn({ token })
        assert.deepStrictEqual([nameless.status, nameless.json._tag], [400, "BadRequest"])
        const again = yield* signIn({ token: "wrong" })
        assert.deepInclude(again.json, { _tag: "TooMany", retry_after_seconds: 1 })
        assert.strictEqual(again.status, 429)
        assert.strictEqual((yield* start().pipe(Effect.flatMap(({ ask }) =>
          ask("/api/session", { ...none, body: { token: "wrong" }, headers: change })))).status, 401)
        const named = yield* start().pipe(Effect.flatMap(({ ask }) =>
          ask("/api/session", { ...none, body: { token, name: "bob" }, headers: change })))
        assert.deepInclude(named.json, { signed_in: true, name: "bob" })
      }))

    it.scoped("a revoked token ends its session", () =>
      Effect.gen(function*() {
        const revoked = new Set<string>()
        const { ask } = yield* start({ revoked })
        const { headers } = yield* ask("/api/session", { ...none, body: { token: "token-of-ann" }, headers: change })
        const look = ask("/api/outbox/blocked", { ...none, headers: { cookie: cookieOf(headers) } })
        assert.strictEqual((yield* look).status, 200)
        revoked.add("ann")
        assert.strictEqual((yield* look).status, 401)
        revoked.delete("ann")
        assert.strictEqual((yield* look).status, 401)
      }))

    it.scoped("a session makes 50 requests a second", () =>
      Effect.gen(function*() {
        const clock = yield* Effect.clock
        const still = Object.create(clock, { unsafeCurrentTimeMillis: { value: () => 1_000_000 } }) as typeof clock
        const { ask } = yield* Effect.withClock(start(), still)
        const { headers } = yield* ask("/api/session", { ...none, body: { token: "token-of-ann" }, headers: change })
        const look = ask("/api/session", { ...none, headers: { cookie: cookieOf(headers) } })
        const statuses = yield* Effect.replicateEffect(Effect.map(look, ({ status }) => status), 51)
        assert.deepStrictEqual([statuses.indexOf(429), new Set(statuses).size], [50, 2])
      }))

    it.scoped("a local stack is open to its own machine, and not to a name that another site points at it", () =>
      Effect.gen(function*() {
        const { ask, port } = yield* start({ local: true })
        assert.deepInclude((yield* ask("/api/session", none)).json, { signed_in: true, name: "local", local: true })
        for (const host of [`localhost:${port}`, `[::1]:${port}`, "127.0.0.1"]) {
          assert.strictEqual((yield* ask("/api/outbox/blocked", { ...none, headers: { host } })).status, 200, host)
        }
        for (const host of ["evil.example", `evil.example:${port}`, "127.0.0.1.evil.example", "localhost:80@evil.example"]) {
          const refused = yield* ask("/api/outbox/blocked", { ...none, headers: { host } })
          assert.deepStrictEqual([refused.status, refused.json?._tag], [403, "ForeignRequest"], host)
        }
        const body = { reason: "a test", event_ids: ["1"], dry_run: true }
        assert.strictEqual((yield* ask("/api/outbox/retry", { ...none, body })).status, 403)
        assert.strictEqual((yield* ask("/api/outbox/retry", { ...none, body, headers: change })).status, 200)
        assert.strictEqual(
          (yield* ask("/api/outbox/retry", { ...none, body, headers: { ...change, "sec-fetch-site": "cross-site" } })).status,
          403
        )
      }))

    it.scoped("hostile requests get a refusal, never a failure of the server", () =>
      Effect.gen(function*() {
        const { ask } = yield* start()
        const long = "9".repeat(400)
        for (
          const [path, asked] of [
            ["/api/session", { ...none, body: { token: "x".repeat(5_000) }, headers: change }],
            ["/api/session", { ...none, body: { token: 1 }, headers: change }],
            ["/api/session", { ...none, body: "not json", headers: change }],
            ["/api/session", { ...none, headers: { cookie: "payments-console=%FF%00; payments-console=\u0001".replace("\u0001", "a") } }],
            [`/api/orders/${long}`, {}],
            ["/api/orders/0", {}],
            ["/api/orders/-1", {}],
            ["/api/orders/1e3", {}],
            ["/api/orders/9223372036854775808/pay", { body: { reason: "x" } }],
            ["/api/orders/%00", {}],
            ["/api/orders?limit=1000000", {}],
            ["/api/orders?limit=0", {}],
            ["/api/orders?key=1", {}],
            ["/api/orders?after=1%3BDROP%20TABLE", {}],
            ["/api/orders?from=yesterday", {}],
            ["/api/outbox/events?after=1_2_3", {}],
            ["/api/outbox/events?limit=1e9", {}],
            ["/api/outbox/retry", { body: { reason: " ", event_ids: ["1"] } }],
            ["/api/outbox/retry", { body: { reason: "x", event_ids: [1] } }],
            ["/api/dead-letters/-1/0", {}],
            [`/api/dead-letters/0/${long}`, {}],
            ["/api/topics/..%2f..%2fetc/records", {}],
            ["/api/topics/payments/records", {}],
            ["/api/topics/inventory/records?offset=1", {}],
            ["/api/topics/inventory/records?partition=-1", {}],
            [`/api/topics/inventory/records?contains=${"a".repeat(201)}`, {}],
            ["/api/topics/inventory/records?after=0@1,", {}],
            ["/api/operations?after=0", {}],
            ["/api/saga/nothing", {}],
            ["/api/doctor/x", {}]
          ] as ReadonlyArray<readonly [string, Asked]>
        ) {
          const { status, text } = yield* ask(path, asked)
          assert.isBelow(status, 500, `${path}: ${text}`)
          if (!path.startsWith("/api/session") || asked.body !== undefined) assert.isAtLeast(status, 400, path)
          assert.notMatch(text, /at .*\.ts:/, path)
        }
      }))

    it.scoped("a scope for each kind of change: look, repair, settle, write", () =>
      Effect.gen(function*() {
        const { ask } = yield* start()
        const sql = yield* SqlClient.SqlClient
        yield* sql`INSERT INTO payment (order_id, status) VALUES (42, 'CREATED') ON CONFLICT DO NOTHING`
        const pay = (bearer: string) => ask("/api/orders/42/pay", { bearer, body: { reason: "a test", dry_run: true } })
        const refused = yield* pay("token-of-the-dashboard")
        assert.deepStrictEqual([refused.status, refused.json.message], [
          403,
          "the token of dashboard lacks the scope payments:settle"
        ])
        assert.strictEqual((yield* pay("token-of-ann")).status, 200)
        const write = (bearer: string) => ask("/api/topics/inventory/records", { bearer, body: { reason: "a test", value: "{}" } })
        assert.strictEqual((yield* write("token-of-ann")).json._tag, "MissingScope")
        const notHere = yield* write("token-of-the-writer")
        assert.deepStrictEqual([notHere.status, notHere.json._tag], [403, "NotHere"])
        assert.strictEqual((yield* ask("/api/saga", { bearer: "token-of-the-writer" })).status, 403)
        assert.deepInclude((yield* ask("/api/doctor", { bearer: "token-of-the-dashboard" })).json, {
          clean: false,
          findings: 1
        })
      }))
  }
)
