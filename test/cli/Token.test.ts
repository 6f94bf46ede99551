import { Command } from "@effect/cli"
import * as NodeContext from "@effect/platform-node/NodeContext"
import { assert, describe, it, vi } from "@effect/vitest"
import { Effect } from "effect"
import { createHash } from "node:crypto"
import * as Failure from "../../src/cli/Failure.js"
import * as Token from "../../src/cli/Token.js"
import { GrpcCallError } from "../../src/grpc/PaymentsClient.js"

/** What `payments token` prints with these arguments. */
const run = (...args: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    const log = yield* Effect.acquireRelease(
      Effect.sync(() => vi.spyOn(console, "log").mockImplementation(() => {})),
      (log) => Effect.sync(() => log.mockRestore())
    )
    yield* Command.run(Token.command, { name: "payments", version: "0" })(["node", "payments", ...args])
    return log.mock.calls.flat().join("\n")
  }).pipe(Effect.scoped, Effect.provide(NodeContext.layer))

describe("payments token create", () => {
  it.effect("prints a new token and the line with its hash", () =>
    Effect.gen(function*() {
      const args = ["create", "--name", "orders", "--scopes", "payments:read,payments:settle", "--json"]
      const [one, other] = [JSON.parse(yield* run(...args)), JSON.parse(yield* run(...args))]
      assert.match(one.token, /^pay_[\w-]{43}$/)
      assert.notStrictEqual(one.token, other.token)
      const sha256 = createHash("sha256").update(one.token).digest("hex")
      assert.strictEqual(one.line, `orders payments:read,payments:settle ${sha256}`)
    }))

  it.effect("refuses an unknown scope and a name of two words", () =>
    Effect.gen(function*() {
      for (
        const args of [["--name", "orders", "--scopes", "payments:all"], [
          "--name",
          "two words",
          "--scopes",
          "payments:read"
        ]]
      ) {
        assert.isTrue(yield* Effect.isFailure(run("create", ...args)))
      }
    }))
})

describe("a refused call at the command line", () => {
  const failure = (code: "UNAUTHENTICATED" | "PERMISSION_DENIED" | "RESOURCE_EXHAUSTED", reason: string) =>
    Failure.tagged(new GrpcCallError({ address: "a:1", method: "GetPayment", code, details: "details", reason }))

  it("has an exit code of its own, and names the settings that help", () => {
    const unknown = failure("UNAUTHENTICATED", "NO_CREDENTIAL")
    assert.include(unknown.message, "set GRPC_TOKEN_FILE")
    assert.strictEqual(Failure.exitCode(unknown), 6)
    assert.strictEqual(Failure.exitCode(failure("PERMISSION_DENIED", "MISSING_SCOPE")), 6)
    assert.strictEqual(Failure.exitCode(failure("RESOURCE_EXHAUSTED", "RATE_LIMIT_EXCEEDED")), 5)
  })
})
