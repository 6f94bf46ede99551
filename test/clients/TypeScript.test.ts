import { assert, layer } from "@effect/vitest"
import type { MetricState } from "effect"
import { Deferred, Effect, Fiber, Layer, Metric } from "effect"
import { execFile } from "node:child_process"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import type { ClientOptions, PaymentsClient } from "../../clients/typescript/src/index.js"
import { connect, PaymentsError, TokenUnprotected, TokenUnreadable } from "../../clients/typescript/src/index.js"
import { scopes } from "../../src/domain/Scope.js"
import * as TokenFile from "../../src/infra/auth/TokenFile.js"
import * as Tokens from "../../src/infra/grpc/auth/Tokens.js"
import { DatabaseUnavailable } from "../../src/infra/postgres/Postgres.js"
import { Payments } from "../../src/payments/Payments.js"
import * as Harness from "../grpc/Harness.js"
import * as PgTest from "../harness/PgTest.js"

const live = Harness.services.pipe(Layer.provideMerge(PgTest.layer))
const example = fileURLToPath(new URL("../../clients/typescript/example/pay.ts", import.meta.url))

const clientOf = (options: ClientOptions) =>
  Effect.acquireRelease(Effect.sync(() => connect(options)), (client) => Effect.sync(client.close))

/** The error of a call that fails. */
const refusal = (call: Promise<unknown>) =>
  Effect.promise(() => call.then(() => assert.fail("the call did not fail"), (error: unknown) => error))

const codeOf = (call: Promise<unknown>) => Effect.map(refusal(call), (error) => (error as PaymentsError).code)

/** A server whose database is away for the first pings, and the number of its pings. */
const awayAtFirst = (times: number) =>
  Effect.gen(function*() {
    const payments = yield* Payments
    let pings = 0
    const ping = Effect.suspend(() =>
      ++pings > times ? payments.ping : new DatabaseUnavailable({ cause: new Error("away") })
    )
    const { address } = yield* Harness.start().pipe(
      Effect.provideService(Payments, Payments.make({ ...payments, ping }))
    )
    return { address, pings: () => pings }
  })

/** Number of pings that this process has refused because of a limit. */
const limited = Effect.map(Metric.snapshot, (pairs) =>
  pairs
    .filter(({ metricKey: { name, tags } }) =>
      name === "payments_grpc_calls_total" &&
      ["GetPing", "RESOURCE_EXHAUSTED"].every((value) => tags.some((tag) => tag.value === value))
    )
    .reduce((sum, { metricState }) => sum + (metricState as MetricState.MetricState.Counter<number>).count, 0))

/** Statuses that a watch sees. `at` runs at each. */
const seen = async (watch: ReturnType<PaymentsClient["watch"]>, at: (status: string) => unknown = () => {}) => {
  const statuses: Array<string> = []
  for await (const { status } of watch) {
    statuses.push(status)
    await at(status)
  }
  return statuses
}

layer(live, { excludeTestServices: true })("the TypeScript client", (it) => {
  it.scoped("pays, refuses and gets; an order id keeps all its digits", () =>
    Effect.gen(function*() {
      const { address } = yield* Harness.start()
      const payments = yield* clientOf({ address })
      const [paid, refused] = [9007199254740993n, 9223372036854775807n]
      yield* Effect.forEach([paid, refused], Harness.reserve)
      for (const order of [paid, refused]) {
        const { pending, ...payment } = yield* Effect.promise(() => payments.get(order))
        assert.deepInclude(payment, { orderId: order, status: "CREATED", settledBy: undefined })
        assert.isBelow(Math.abs(Date.now() - payment.createdAt.getTime()), 60_000)
        assert.isEmpty(pending)
      }
      // the second call finds the first
      for (let i = 0; i < 2; i++) {
        yield* Effect.promise(() => payments.pay(paid))
        yield* Effect.promise(() => payments.refuse(refused))
      }
      assert.strictEqual((yield* Effect.promise(() => payments.get(paid))).status, "COMPLETED")
      const after = yield* Effect.promise(() => payments.get(refused))
      assert.strictEqual(after.status, "FAILED")
      assert.deepInclude(after.pending[0], { says: "FAILED", dead: false, attempts: 0, lastError: "" })
      const error = yield* refusal(payments.pay(refused))
      assert.instanceOf(error, PaymentsError)
      assert.deepInclude({ ...(error as PaymentsError) }, {
        address,
        method: "UpdatePaymentStatus",
        code: "FAILED_PRECONDITION",
        reason: "PAYMENT_ALREADY_SETTLED",
        metadata: { order_id: String(refused), status: "FAILED" }
      })
      assert.isFalse((error as PaymentsError).retryable)
    }))

  it.scoped("repeats a call that the server could not finish, and no call without retries", () =>
    Effect.gen(function*() {
      const [patient, once] = [yield* awayAtFirst(2), yield* awayAtFirst(1)]
      const [retrying, plain] = [
        yield* clientOf({ address: patient.address }),
        yield* clientOf({ address: once.address, retries: false })
      ]
      assert.isTrue(yield* Effect.promise(() => retrying.ping()))
      assert.strictEqual(patient.pings(), 3)
      const error = yield* refusal(plain.ping())
      assert.deepInclude({ ...(error as PaymentsError) }, { code: "UNAVAILABLE", reason: "DATABASE_UNAVAILABLE" })
      assert.isTrue((error as PaymentsError).retryable)
      assert.strictEqual(once.pings(), 1)
      // an answer is an answer: nothing is asked twice
      assert.strictEqual(yield* codeOf(retrying.get(1n)), "NOT_FOUND")
    }))

  it.scoped("waits as long as a server asks that limits its callers", () =>
    Effect.gen(function*() {
      const { address } = yield* Harness.start({ access: { callsPerSecond: 1 } })
      const payments = yield* clientOf({ address })
      yield* Effect.promise(() => payments.ping())
      const before = yield* limited
      assert.isTrue(yield* Effect.promise(() => payments.ping()))
      // with its own pauses, of at most 0.1, 0.3 and 0.9 s, it would be refused three times; a timer can be a millisecond early
      assert.include([1, 2], (yield* limited) - before)
    }))

  it.scoped("ends a call at its deadline and at its signal", () =>
    Effect.gen(function*() {
      const { address } = yield* Harness.start()
      const payments = yield* clientOf({ address, deadlineMillis: 200 })
      yield* Harness.reserve(501n)
      const { release } = yield* Harness.lock(501n)
      const begun = performance.now()
      assert.strictEqual(yield* codeOf(payments.pay(501n)), "DEADLINE_EXCEEDED")
      // the default is 5 seconds
      assert.isBelow(performance.now() - begun, 4_500)
      const controller = new AbortController()
      const call = payments.pay(501n, { signal: controller.signal, deadlineMillis: 60_000 })
      controller.abort(new Error("no longer wanted"))
      assert.strictEqual(((yield* refusal(call)) as Error).message, "no longer wanted")
      assert.strictEqual(
        ((yield* refusal(payments.pay(501n, { signal: controller.signal }))) as Error).message,
        "no longer wanted"
      )
      yield* release
    }))

  it.scoped("watches a payment that comes later until its end, and for a time at most", () =>
    Effect.gen(function*() {
      const { address } = yield* Harness.start()
      const payments = yield* clientOf({ address })
      const asked = yield* Deferred.make<void>()
      const watching = yield* Effect.forkScoped(Effect.promise(() => {
        Effect.runSync(Deferred.succeed(asked, undefined))
        return seen(payments.watch(511n), (status) => status === "CREATED" ? payments.pay(511n) : undefined)
      }))
      yield* Deferred.await(asked)
      yield* Harness.reserve(511n)
      assert.deepStrictEqual(yield* Fiber.join(watching), ["CREATED", "COMPLETED"])
      assert.deepStrictEqual(yield* Effect.promise(() => seen(payments.watch(511n))), ["COMPLETED"])
      yield* Harness.reserve(513n)
      for (const [order, state] of [[512n, "was not there"], [513n, "was CREATED"]] as const) {
        const begun = performance.now()
        const error = (yield* refusal(seen(payments.watch(order, { withinMillis: 150 })))) as PaymentsError
        assert.strictEqual(error.code, "DEADLINE_EXCEEDED")
        assert.isBelow(performance.now() - begun, 10_000)
        assert.include(error.details, state)
      }
      assert.strictEqual(yield* codeOf(seen(payments.watch(0n))), "INVALID_ARGUMENT")
      const signal = AbortSignal.abort(new Error("no longer wanted"))
      assert.strictEqual(
        ((yield* refusal(seen(payments.watch(511n, { signal })))) as Error).message,
        "no longer wanted"
      )
    }))

  it.scoped("reads the file of its token at each call, and sends no token where others can read it", () =>
    Effect.gen(function*() {
      const folder = yield* Effect.acquireRelease(
        Effect.sync(() => mkdtempSync(join(tmpdir(), "payments-client-"))),
        (path) => Effect.sync(() => rmSync(path, { recursive: true }))
      )
      const [one, other] = [TokenFile.create("orders", scopes), TokenFile.create("orders", scopes)]
      const known = join(folder, "tokens")
      writeFileSync(known, `${other.line}\n`)
      const authenticator = yield* Tokens.make({ file: known, variable: "GRPC_TOKENS_FILE", scopes })
      const { address } = yield* Harness.start({ access: { authenticator } })
      const file = join(folder, "token")
      const payments = yield* clientOf({ address, token: { file } })
      assert.instanceOf(yield* refusal(payments.get(521n)), TokenUnreadable)
      writeFileSync(file, `${one.token}\n`)
      assert.strictEqual(yield* codeOf(payments.get(521n)), "UNAUTHENTICATED")
      writeFileSync(file, `${other.token}\n`)
      assert.strictEqual(yield* codeOf(payments.get(521n)), "NOT_FOUND")
      writeFileSync(file, "two words\n")
      const unusable = (yield* refusal(payments.get(521n))) as Error
      assert.instanceOf(unusable, TokenUnreadable)
      assert.notInclude(unusable.message, "two words")
      for (const token of ["", "two words", "säcret"]) {
        assert.throws(() => connect({ address, token }), /^the token is not one word of ASCII$/)
      }
      for (const address of ["payments.test:8081", "[2001:db8::1]:8081"]) {
        assert.throws(() => connect({ address, token: "secret-token" }), TokenUnprotected, "set the option tls")
        connect({ address, token: "secret-token", tls: true }).close()
      }
      connect({ address: "[::1]:8081", token: "secret-token" }).close()
    }))

  it.scoped("its example pays an order", () =>
    Effect.gen(function*() {
      const { address } = yield* Harness.start()
      yield* Harness.reserve(531n)
      const output = yield* Effect.async<string>((resume) => {
        const args = ["--conditions=source", "--import", "tsx", example]
        execFile(
          process.execPath,
          args,
          { env: { PATH: process.env["PATH"], ORDER: "531", PAYMENTS: address }, timeout: 60_000 },
          (error, stdout, stderr) => resume(error === null ? Effect.succeed(stdout) : Effect.dieMessage(stderr))
        )
      })
      assert.match(output, /^order 531 CREATED since \S+\norder 531 COMPLETED since \S+\n$/)
    }))
})
