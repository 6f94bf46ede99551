import type { Reporter, TestCase, TestModule, Vitest } from "vitest/node"
import { line } from "../Figures.js"

const marks = { passed: "ok  ", failed: "FAIL", skipped: "--  ", pending: "--  " }

const row = (test: TestCase) => [
  `${marks[test.result().state]}  ${test.name}`,
  ...(test.meta().worlds ?? []).map((figures) => `        ${line(figures)}`)
]

/** The last lines of `npm run failover`: each fault, and what the worlds of its test have shown. */
export default class Rows implements Reporter {
  private all = true

  onInit({ config }: Vitest) {
    this.all = config.testNamePattern === undefined
  }

  onTestRunEnd(modules: ReadonlyArray<TestModule>) {
    const rows = modules
      .flatMap((module) => [...module.children.allTests()])
      .filter((test) => this.all || test.result().state !== "skipped")
      .flatMap(row)
    // after the default reporter's own summary
    process.on("exit", () => process.stdout.write(`\n${rows.join("\n")}\n\n`))
  }
}
