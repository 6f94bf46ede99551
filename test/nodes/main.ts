import { spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import * as NodeBinary from "../harness/NodeBinary.js"

/** The supported major versions of Node. 20.19 is supported too, and has no package for every platform. */
const supported = [22, 24, 26]

const help = `npm run nodes -- [VERSION…]

Runs the compiled program under other versions of Node: start, orders by either delivery, gRPC, commands, stop. The tests
themselves run under the Node of this machine. A deprecated call is a failure.

  VERSION   major versions (default: ${supported.join(" ")})

The first run fetches each Node from npm into .local/cache. To fetch newer releases, delete .local/cache/node-*.
Exit code: 0 passed, 1 failed, 2 wrong arguments, 77 no version could be checked.
`

const { positionals, values } = parseArgs({
  options: { help: { type: "boolean", default: false } },
  allowPositionals: true
})
const majors = positionals.length === 0 ? supported : positionals.map(Number)

if (values.help) {
  process.stdout.write(help)
} else if (!majors.every(Number.isInteger)) {
  process.stderr.write(help)
  process.exitCode = 2
} else {
  const nodes: Array<{ readonly version: string; readonly program: string }> = []
  for (const major of majors) {
    const node = await NodeBinary.find(major, () => process.stderr.write(`Node ${major}: fetching, only once\n`))
    if ("reason" in node) process.stdout.write(`Node ${major}: not checked, ${node.reason}\n`)
    else nodes.push(node)
  }
  if (nodes.length === 0) {
    process.exitCode = 77
  } else {
    const vitest = fileURLToPath(new URL("../../node_modules/vitest/vitest.mjs", import.meta.url))
    const config = fileURLToPath(new URL("vitest.config.ts", import.meta.url))
    const child = spawn(process.execPath, [vitest, "run", "--config", config], {
      stdio: "inherit",
      env: { ...process.env, NODES: JSON.stringify(nodes) }
    })
    // Ctrl-C reaches vitest too, which closes its servers
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => void child.kill(signal))
    child.on("close", (code) => (process.exitCode = code ?? 1))
  }
}
