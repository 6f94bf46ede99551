// Runs the example clients of other languages against a running stack, each where its tool chain is: npm run examples
// The stack is that of GRPC_ADDR and KAFKA_BROKERS. When no server answers at GRPC_ADDR, `payments start` runs meanwhile.
import { spawn, spawnSync } from "node:child_process"
import { existsSync, readFileSync, writeFileSync } from "node:fs"
import { connect } from "node:net"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const inRoot = (path) => join(root, path)
const bin = inRoot("node_modules/.bin")

/** An example that fails, with the output of its command. */
class Failed extends Error {}

/** Runs a command to its end, for five minutes at most. Returns its standard output. */
const run = (command, args, { cwd = root, env = {} } = {}) => {
  const { error, signal, status, stderr, stdout } = spawnSync(command, args, {
    cwd,
    env: { ...process.env, ...env },
    encoding: "utf8",
    timeout: 300_000
  })
  if (error !== undefined || status !== 0) {
    throw new Failed(`${command} ${args.join(" ")}: ${error?.message ?? `exit ${status ?? signal}`}\n${stdout}${stderr}`)
  }
  return stdout
}

/** The first version that a program prints; undefined when it is not on PATH. */
const versionOf = (command, ...args) => {
  const { status, stdout } = spawnSync(command, args, { encoding: "utf8" })
  const [, major, minor] = /(\d+)\.(\d+)/.exec(status === 0 ? stdout : "") ?? []
  return major === undefined ? undefined : [Number(major), Number(minor)]
}

/** The reason why a language is not checked; undefined when its tool chain is here. */
const lacks = (name, found, [major, minor]) =>
  found === undefined
    ? `${name} is not on PATH`
    : found[0] < major || (found[0] === major && found[1] < minor)
    ? `${name} is ${found.join(".")}, older than ${major}.${minor}`
    : undefined

const examples = [
  {
    name: "typescript",
    lacks: () => undefined,
    run: ({ grpc, order }) =>
      run(process.execPath, ["--conditions=source", "--import", "tsx", "clients/typescript/example/pay.ts"], {
        env: { ORDER: order, PAYMENTS: grpc }
      })
  },
  {
    name: "go",
    lacks: () => lacks("go", versionOf("go", "version"), [1, 25]),
    run: ({ grpc, kafka, order }) => {
      const cwd = inRoot("examples/go")
      run(join(bin, "buf"), ["generate", "../../proto"], { cwd })
      return run("go", ["run", ".", "-order", order], { cwd, env: { GRPC_ADDR: grpc, KAFKA_BROKERS: kafka } })
    }
  },
  {
    name: "python",
    lacks: () => lacks("python3", versionOf("python3", "--version"), [3, 10]),
    run: ({ grpc, order }) => {
      const cwd = inRoot("examples/python")
      const python = join(cwd, ".venv/bin/python")
      const stamp = join(cwd, ".venv/.requirements")
      const requirements = readFileSync(join(cwd, "requirements.txt"), "utf8")
      if (!existsSync(stamp) || readFileSync(stamp, "utf8") !== requirements) {
        run("python3", ["-m", "venv", "--clear", ".venv"], { cwd })
        run(python, ["-m", "pip", "install", "-q", "--disable-pip-version-check", "-r", "requirements.txt"], { cwd })
        writeFileSync(stamp, requirements)
      }
      const out = ["-I", "../../proto", "--python_out=.", "--grpc_python_out=."]
      run(python, ["-m", "grpc_tools.protoc", ...out, "payments.proto"], { cwd })
      return run(python, ["pay.py", order], { cwd, env: { GRPC_ADDR: grpc } })
    }
  }
]

const answers = (address) =>
  new Promise((resolve) => {
    const [, host, port] = /^(.*):(\d+)$/.exec(address)
    const socket = connect({ host, port }, () => resolve(true)).on("error", () => resolve(false))
    socket.once("connect", () => socket.destroy())
  })

/** The addresses of a stack, and the function that ends it if it was started here. */
const stack = async () => {
  const { GRPC_ADDR: grpc = "127.0.0.1:8081", KAFKA_BROKERS: kafka = "localhost:9095" } = process.env
  if (await answers(grpc)) return { grpc, kafka, end: () => {} }
  console.log(`no server at ${grpc}: starting one`)
  const child = spawn(process.execPath, [inRoot("payments"), "start"], { stdio: ["ignore", "pipe", "pipe"] })
  const ended = new Promise((resolve) => child.once("close", resolve))
  const end = async () => {
    child.kill("SIGTERM")
    await ended
  }
  let output = ""
  const address = (name) => new RegExp(`^ {2}${name} +(\\S*:\\d+\\S*)`, "m").exec(output)?.[1]
  const ready = new Promise((resolve) => {
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (text) => {
        output += text
        if (address("operations") !== undefined) resolve(true)
      })
    }
  })
  const limit = setTimeout(() => child.kill("SIGTERM"), 180_000)
  const isReady = await Promise.race([ready, ended.then(() => false)])
  clearTimeout(limit)
  if (!isReady) throw new Failed(`payments start is not ready:\n${output}`)
  return { grpc: address("gRPC"), kafka: address("Kafka").replace(/,$/, ""), end }
}

const check = ({ lacks, name, run: runExample }, { grpc, kafka }, order) => {
  const reason = lacks()
  if (reason !== undefined) {
    console.log(`--    ${name}: not checked, ${reason}`)
    return true
  }
  const begun = performance.now()
  const seconds = () => ((performance.now() - begun) / 1000).toFixed(1)
  try {
    run(process.execPath, [inRoot("payments"), "reserve", order], { env: { KAFKA_BROKERS: kafka } })
    const output = runExample({ grpc, kafka, order })
    if (!new RegExp(`order ${order} (PAYMENT_STATUS_)?COMPLETED`).test(output)) {
      throw new Failed(`it did not say that order ${order} is COMPLETED:\n${output}`)
    }
    console.log(`ok    ${name} (${seconds()} s)`)
    return true
  } catch (error) {
    if (!(error instanceof Failed)) throw error
    console.log(`FAIL  ${name} (${seconds()} s)\n${error.message.trimEnd().replaceAll(/^/gm, "      ")}`)
    return false
  }
}

const wanted = process.argv.slice(2)
const unknown = wanted.find((name) => !examples.some((example) => example.name === name))
if (unknown !== undefined) {
  console.error(`there is no example ${unknown}: ${examples.map(({ name }) => name).join(", ")}`)
  process.exit(2)
}
try {
  const servers = await stack()
  const first = Date.now()
  const good = examples
    .filter(({ name }) => wanted.length === 0 || wanted.includes(name))
    .map((example, i) => check(example, servers, String(first + i)))
  await servers.end()
  process.exitCode = good.every(Boolean) ? 0 : 1
} catch (error) {
  if (!(error instanceof Failed)) throw error
  console.error(error.message)
  process.exitCode = 1
}
