import { assert, describe, it } from "@effect/vitest"
import type { Load, Patch } from "../../../../src/infra/kafka/patches/Patch.js"
import { copy } from "../../../harness/StockKafkajs.js"

/**
 * Two tests of a patch that observe the same: the stock library shows the defect, and a library with no other patch than
 * this one does not.
 */
export const contract = <A>(
  defect: string,
  patch: Patch,
  expected: { readonly stock: A; readonly patched: A },
  observe: (load: Load) => Promise<A>
) =>
  describe(defect, () => {
    it("stock kafkajs has the defect", async () => {
      assert.deepStrictEqual(await observe(copy()), expected.stock)
    }, 60_000)

    it("patched kafkajs does not", async () => {
      const load = copy()
      patch.install(load)
      assert.deepStrictEqual(await observe(load), expected.patched)
    }, 60_000)
  })

/** A logger of kafkajs that writes nothing. */
export const logger: object = {
  namespace: () => logger,
  debug: () => {},
  info: () => {},
  warn: () => {},
  error: () => {}
}

/** Makes the error of a broker's error code. */
export const brokerError = (load: Load, code: number): Error =>
  (load("kafkajs/src/protocol/error") as { readonly createErrorFromCode: (code: number) => Error })
    .createErrorFromCode(code)
