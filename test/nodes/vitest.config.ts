import { fileURLToPath } from "node:url"
import { defineConfig } from "vitest/config"
import type { Reporter, TestModule } from "vitest/node"

const nodes = JSON.parse(process.env["NODES"] ?? "[]") as ReadonlyArray<
  { readonly version: string; readonly program: string }
>

/** One line for each Node. */
class ByNode implements Reporter {
  onTestRunEnd(modules: ReadonlyArray<TestModule>) {
    for (const { version } of nodes) {
      const name = `Node ${version}`
      const states = modules.filter(({ project }) => project.name === name)
        .flatMap((module) => [...module.children.allTests()].map((test) => test.result().state))
      const passed = states.filter((state) => state === "passed").length
      process.stdout.write(`${name}: ${passed} passed, ${states.length - passed} failed\n`)
    }
  }
}

export default defineConfig({
  test: {
    root: fileURLToPath(new URL("../..", import.meta.url)),
    // one set of servers for all
    globalSetup: ["test/harness/Servers.ts"],
    reporters: ["default", new ByNode(), "./test/harness/Total.ts"],
    maxWorkers: 2,
    minWorkers: 1,
    projects: nodes.map(({ program, version }) => ({
      test: {
        name: `Node ${version}`,
        include: ["test/nodes/EndToEnd.ts"],
        setupFiles: ["./test/harness/EachFile.ts"],
        env: { PROGRAM_NODE: program, PROGRAM_NODE_VERSION: version },
        testTimeout: 120_000,
        hookTimeout: 120_000
      }
    }))
  }
})
