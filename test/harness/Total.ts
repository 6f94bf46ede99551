import type { Reporter, TestModule } from "vitest/node"

/** The last line of a run: how many tests passed, and how many failed. */
export default class Total implements Reporter {
  onTestRunEnd(modules: ReadonlyArray<TestModule>, errors: ReadonlyArray<unknown>) {
    const states = modules.flatMap((module) => [...module.children.allTests()].map((test) => test.result().state))
    const broken = modules.filter((module) => module.errors().length > 0).length
    const of = (state: string) => states.filter((_) => _ === state).length
    const failed = of("failed") + broken + errors.length
    const skipped = of("skipped")
    // after the default reporter's own summary
    process.on("exit", () => {
      process.stdout.write(`${of("passed")} passed, ${failed} failed${skipped === 0 ? "" : `, ${skipped} skipped`}\n`)
    })
  }
}
