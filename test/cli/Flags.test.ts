import { assert, describe, it } from "@effect/vitest"
import { Either } from "effect"
import { orderNumber } from "../../src/cli/Flags.js"

describe("the number of an order", () => {
  it("is decimal digits", () => {
    for (const text of ["1", "16", "9007199254740993", "9223372036854775807"]) {
      assert.strictEqual<bigint>(Either.getOrThrow(orderNumber(text)), BigInt(text))
    }
  })

  it("is no other text that JavaScript reads as a number", () => {
    for (
      const text of [
        "",
        " ",
        "0",
        "-1",
        "+16",
        "0x10",
        "0X10",
        "0b10000",
        "0o20",
        "020",
        " 16",
        "16 ",
        "16\n",
        "\u00a016",
        "1e3",
        "1.0",
        "1_000",
        "1,000",
        "16n",
        "٣",
        "１６",
        "²",
        "Infinity",
        "NaN",
        "9223372036854775808",
        "18446744073709551616",
        "9".repeat(400)
      ]
    ) {
      assert.isTrue(Either.isLeft(orderNumber(text)), JSON.stringify(text))
    }
  })
})
