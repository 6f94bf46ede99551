// Builds the image, brings compose.yml up under a name of its own, plays one order through, and takes all down again.
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { checks, has, root, run } from "./tools.mjs"

const usage = `usage: npm run containers -- [--no-build]

Needs a container engine with Docker Compose, and the ports of compose.yml. Without an engine it checks nothing: exit code 77.
--no-build  use the image that is there`

/** Beside a project \`payments\` with its data. */
const project = "payments-check"
const compose = (args, options) => run("docker", ["compose", "--project-name", project, ...args], { timeout: 600_000, ...options })
/** The command line in a container of its own beside the others. */
const payments = (...args) => compose(["run", "--rm", "--no-deps", "-T", "-e", "GRPC_ADDR=server:8081", "server", ...args])

const ok = ({ code, output }) => code === 0 ? undefined : output
const says = ({ code, output, stdout }, text) => code === 0 && stdout.includes(text) ? undefined : output
/** Repeats a check once a second, half a minute long. */
const eventually = (verdict) => {
  for (let left = 30;; left--) {
    const problem = verdict()
    if (problem === undefined || left === 0) return problem
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1000)
  }
}

/** Exit codes of the containers of this project; one that was killed after its grace period has 137. */
const exitCodes = () => {
  const { stdout } = compose(["ps", "--all", "--quiet", "consumer", "server"])
  return run("docker", ["inspect", "--format", "{{.Name}} {{.State.ExitCode}}", ...stdout.trim().split("\n")]).stdout.trim().split("\n")
}

const main = (args) => {
  if (args.some((arg) => arg !== "--no-build")) {
    console.error(usage)
    return args.includes("--help") ? 0 : 2
  }
  const { check, end, notChecked } = checks()
  if (!has("docker", ["info"]) || !has("docker", ["compose", "version"])) {
    notChecked("containers", "no container engine with Docker Compose answers")
    return 77
  }
  const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"))
  let works = true
  const must = (name, verdict) => {
    if (!works) return
    check(name, () => {
      const problem = verdict()
      works = problem === undefined
      return problem
    })
  }
  try {
    if (args.length === 0) must("the image is built", () => ok(compose(["build"])))
    must("all containers are healthy", () => ok(compose(["up", "--detach", "--no-build", "--wait", "--wait-timeout", "300"])))
    must("the program has the version of package.json", () => says(payments("--version"), version))
    must("an order is reserved", () => ok(payments("reserve", "111")))
    must("its payment is created", () => eventually(() => says(payments("payment", "111"), "CREATED")))
    must("it is paid", () => ok(payments("pay", "111")))
    must("its payment is completed", () => says(payments("payment", "111"), "COMPLETED"))
    must("the audit is clean", () => ok(payments("audit", "--wait", "30s")))
    must("a stop ends the services with exit code 0", () => {
      const stopped = compose(["stop", "consumer", "server"])
      const codes = exitCodes()
      return stopped.code === 0 && codes.every((line) => line.endsWith(" 0")) ? undefined : `${stopped.output}${codes.join("\n")}`
    })
    if (!works) console.log(compose(["logs", "--no-color", "--tail", "20"]).output)
  } finally {
    check("nothing is left", () => ok(compose(["down", "--volumes"])))
  }
  end()
  return process.exitCode
}

process.exitCode = main(process.argv.slice(2))
