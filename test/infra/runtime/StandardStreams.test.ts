import { afterEach, assert, describe, it, vi } from "@effect/vitest"
import * as StandardStreams from "../../../src/infra/runtime/StandardStreams.js"

/** Standard error that answers each line with the next of these results, and then accepts all. */
const answering = (...answers: ReadonlyArray<Error | undefined>) => {
  const lines: Array<string> = []
  const left = [...answers]
  vi.spyOn(process.stderr, "write").mockImplementation(
    ((text: string, done: (error?: Error) => void) => {
      const error = left.shift()
      if (error === undefined) lines.push(text)
      done(error)
      return true
    }) as typeof process.stderr.write
  )
  return lines
}
const full = Object.assign(new Error("no space left on device"), { code: "ENOSPC" })

afterEach(() => {
  vi.restoreAllMocks()
})

describe("the log", () => {
  it("drops lines that cannot be written, and later logs their number", () => {
    const lines = answering(full, full)
    for (const line of ["a", "b", "c", "d"]) StandardStreams.log(line)
    assert.deepStrictEqual(lines.map((line) => line.replace(/"timestamp":"[^"]+"/, "\"timestamp\":\"\"")), [
      "c\n",
      "{\"timestamp\":\"\",\"level\":\"WARN\",\"message\":\"2 lines of the log could not be written\"}\n",
      "d\n"
    ])
  })

  it("bounds the memory of lines for a reader that does not read", () => {
    const lines = answering()
    vi.spyOn(process.stderr, "writableLength", "get").mockReturnValue(2 * 1024 * 1024)
    StandardStreams.log("a")
    assert.deepStrictEqual(lines, [])
  })

  it("drops all lines after its reader is gone, without an error", () => {
    const lines = answering(Object.assign(new Error("write EPIPE"), { code: "EPIPE" }))
    for (const line of ["a", "b"]) StandardStreams.log(line)
    assert.deepStrictEqual(lines, [])
  })
})
