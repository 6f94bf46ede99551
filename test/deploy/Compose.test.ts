import { assert, describe, it } from "@effect/vitest"
import { Duration, Either } from "effect"
import { existsSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { parse } from "yaml"
import { settings } from "../../src/Config.js"
import type { Parse, Setting } from "../../src/infra/runtime/Setting.js"
import { address, duration } from "../../src/infra/runtime/Setting.js"
import { roles } from "../../src/ops/Parts.js"

const inCheckout = (path: string) => fileURLToPath(new URL(`../../${path}`, import.meta.url))
const text = (path: string) => readFileSync(inCheckout(path), "utf8")

interface Service {
  readonly image: string
  readonly build?: string
  readonly command?: ReadonlyArray<string>
  readonly environment?: Record<string, string | number | null>
  readonly ports: ReadonlyArray<string>
  readonly restart?: string
  readonly init?: boolean
  readonly stop_grace_period?: string
  readonly depends_on?: Record<string, { readonly condition: string }>
  readonly healthcheck?: { readonly test: ReadonlyArray<string> }
  readonly profiles?: ReadonlyArray<string>
  readonly mem_limit?: string
  readonly volumes?: ReadonlyArray<string>
}

/** Replaces variables by their defaults, as compose does in an empty environment. */
const withDefaults = (text: string) => text.replace(/\$\{\w+:-([^}]*)\}/g, "$1")

const compose: { readonly services: Record<string, Service>; readonly volumes: Record<string, unknown> } = parse(
  withDefaults(text("compose.yml")),
  { merge: true }
)
const services = Object.entries(compose.services)
const ours = services.filter(([, { build }]) => build !== undefined)

const right = <A>(parsed: Either.Either<A, string>) => Either.getOrThrowWith(parsed, (problem) => new Error(problem))
const settingOf = (name: string): Setting<any> | undefined => Object.values(settings).find((_) => _.name === name)
const valueOf = <A>(service: Service, name: string, parse: Parse<A>) => right(parse(`${service.environment?.[name]}`))

describe("compose.yml", () => {
  it("pins every image to a patch version", () => {
    for (const [name, { image }] of services) assert.match(image, /:v?\d+\.\d+(\.\d+)?(-[a-z]+)?$/, name)
    assert.match(text("Dockerfile"), /^FROM node:24\.\d+\.\d+-\w+-slim AS base$/m)
    assert.deepStrictEqual(
      [...text("Dockerfile").matchAll(/^FROM (\S+)/gm)].map(([, from]) => from).slice(1),
      ["base", "base", "scratch"]
    )
  })

  it("allows plaintext between its containers, and says so", () => {
    for (const [name, service] of ours) assert.strictEqual(service.environment?.["INSECURE"], "true", name)
    assert.match(text("compose.yml"), /#.*\n.*#.*\n  INSECURE: "true"/)
  })

  it("publishes the ports of the contract, on the loopback address", () => {
    const published = Object.fromEntries(services.map(([name, { ports }]) => [name, ports]))
    assert.deepStrictEqual(published, {
      consumer: ["127.0.0.1:8083:8082"],
      server: ["127.0.0.1:8081:8081", "127.0.0.1:8082:8082"],
      postgres: ["127.0.0.1:54321:5432"],
      redis: ["127.0.0.1:6379:6379"],
      kafka: ["127.0.0.1:9095:9095"],
      "kafka-ui": ["127.0.0.1:8080:8080"],
      // with --profile observability
      prometheus: ["127.0.0.1:9090:9090"],
      telemetry: ["127.0.0.1:3001:3000", "127.0.0.1:4318:4318"],
      grafana: ["127.0.0.1:3000:3000"]
    })
  })

  it("sets only variables that exist, to valid values", () => {
    assert.deepStrictEqual(ours.map(([name]) => name), ["consumer", "server"])
    for (const [name, { environment }] of ours) {
      for (const [variable, value] of Object.entries(environment ?? {})) {
        const setting = settingOf(variable)
        assert.isDefined(setting, `${name}: ${variable}`)
        // an empty variable counts as unset
        if (value === null) continue
        assert.isTrue(Either.isRight(setting!.parse(String(value))), `${name}: ${variable}=${value}`)
      }
    }
  })

  it("reaches the servers by their names and ports in compose", () => {
    for (const [, { environment }] of ours) {
      assert.strictEqual(environment?.["DATABASE_URL"], "postgres://payments:payments@postgres:5432/payments")
      assert.strictEqual(environment?.["REDIS_URL"], "redis://redis:6379")
      assert.strictEqual(environment?.["KAFKA_BROKERS"], "kafka:9092")
    }
    const { environment: kafka } = compose.services["kafka"]!
    assert.strictEqual(kafka?.["KAFKA_ADVERTISED_LISTENERS"], "INTERNAL://kafka:9092,EXTERNAL://localhost:9095")
    assert.strictEqual(kafka?.["KAFKA_LISTENERS"], "INTERNAL://:9092,EXTERNAL://:9095,CONTROLLER://:9093")
    const { environment: postgres } = compose.services["postgres"]!
    assert.deepStrictEqual(postgres, {
      POSTGRES_USER: "payments",
      POSTGRES_PASSWORD: "payments",
      POSTGRES_DB: "payments"
    })
  })

  it("listens on all addresses of the container, at the published ports", () => {
    for (const [name, service] of ours) {
      const targets = service.ports.map((port) => Number(port.split(":").at(-1)))
      const http = valueOf(service, "HTTP_ADDR", address)
      assert.strictEqual(http.host, "0.0.0.0")
      assert.include(targets, http.port)
      const grpc = valueOf(service, "GRPC_ADDR", address)
      assert.strictEqual(grpc.host, "0.0.0.0")
      assert.strictEqual(targets.includes(grpc.port), service.command!.includes("grpc"), name)
    }
  })

  it("runs every part once", () => {
    const commands = ours.map(([, { command }]) => command!)
    assert.isTrue(commands.every(([verb]) => verb === "serve"))
    // every process with a token serves the console
    assert.deepStrictEqual(commands.flatMap(([, ...named]) => named), roles.filter((role) => role !== "console"))
  })

  it("has a health check for everything, and starts in that order", () => {
    for (const [name, service] of services) {
      assert.match(service.healthcheck?.test[0] ?? "", /^CMD(-SHELL)?$/, name)
      assert.strictEqual(service.restart, "unless-stopped", name)
      for (const [other, { condition }] of Object.entries(service.depends_on ?? {})) {
        assert.property(compose.services, other)
        assert.strictEqual(condition, "service_healthy")
      }
    }
    for (const [, service] of ours) {
      assert.hasAllKeys(service.depends_on, ["postgres", "redis", "kafka"])
      const { port } = valueOf(service, "HTTP_ADDR", address)
      assert.include(service.healthcheck!.test.join(" "), `http://127.0.0.1:${port}/readyz`)
    }
  })

  it("asks for the readiness of what a container runs", () => {
    const probes = Object.fromEntries(ours.map(([name, { healthcheck }]) => [name, healthcheck!.test.join(" ")]))
    assert.include(probes["consumer"], "/readyz/consumer'")
    assert.include(probes["server"], "/readyz'")
  })

  it("limits the memory of everything but kafka-ui", () => {
    for (const [name, { mem_limit }] of services) {
      if (name !== "kafka-ui") assert.match(mem_limit ?? "", /^\d+[mg]$/, name)
    }
  })

  it("starts what observes only with its profile, with files that exist", () => {
    const observers = services.filter(([, { profiles }]) => profiles !== undefined)
    assert.deepStrictEqual(observers.map(([name]) => name), ["prometheus", "telemetry", "grafana"])
    const mounted = observers.flatMap(([, { volumes = [] }]) => volumes).filter((volume) => volume.startsWith("./"))
    assert.deepStrictEqual(mounted.map((volume) => volume.split(":")[0]), [
      "./deploy/prometheus",
      "./deploy/grafana/payments.json",
      "./deploy/grafana/provisioning"
    ])
    for (const volume of mounted) assert.isTrue(existsSync(inCheckout(volume.split(":")[0]!)), volume)
    const prometheus = parse(text("deploy/prometheus/prometheus.yml"))
    const [job] = prometheus.scrape_configs
    assert.strictEqual(job.job_name, "payments")
    assert.deepStrictEqual(
      job.static_configs[0].targets,
      ours.map(([name, service]) => `${name}:${valueOf(service, "HTTP_ADDR", address).port}`)
    )
    for (const file of prometheus.rule_files) assert.isTrue(existsSync(inCheckout(`deploy/prometheus/${file}`)), file)
  })

  it("gives a stop as much time as the service needs", () => {
    for (const [, service] of ours) {
      const limit = valueOf(service, "SHUTDOWN_TIMEOUT", duration(0))
      assert.isTrue(Duration.greaterThan(right(duration(0)(service.stop_grace_period!)), limit))
      assert.isTrue(service.init)
    }
  })
})

describe("Dockerfile", () => {
  const dockerfile = text("Dockerfile")
  const copied = [...dockerfile.matchAll(/^COPY (?!--from)(.+) \S+$/gm)].flatMap(([, sources]) => sources!.split(" "))

  it("copies only files that exist and that .dockerignore allows", () => {
    const let_through = text(".dockerignore").split("\n").filter((line) => line.startsWith("!")).map((_) => _.slice(1))
    for (const source of copied) {
      assert.isTrue(existsSync(inCheckout(source)), source)
      assert.include(let_through, source)
    }
    for (const source of let_through) assert.include(copied, source)
  })

  it("has what scripts/ship.mjs copies, the user by number, and node itself as the first process", () => {
    const runtime = dockerfile.slice(dockerfile.indexOf("AS runtime"))
    assert.match(dockerfile, /npm run build && node scripts\/ship\.mjs \/image\/app /)
    assert.match(runtime, /^COPY --from=build \/image\/ \/$/m)
    assert.match(runtime, /^WORKDIR \/app$/m)
    assert.match(runtime, /^USER 1000:1000$/m)
    assert.match(runtime, /^ENTRYPOINT \["node", "dist\/bin\/payments.js"\]$/m)
  })

  it("names the version of the program and of its base", () => {
    const { version } = JSON.parse(text("package.json"))
    const [, base] = /^FROM (\S+) AS base$/m.exec(dockerfile)!
    assert.include(dockerfile, `ARG VERSION=${version}\n`)
    assert.include(dockerfile, `org.opencontainers.image.base.name="docker.io/library/${base}"`)
    for (const [name, { image }] of ours) assert.strictEqual(image, `payments:${version}`, name)
  })

  it("sets only variables that exist", () => {
    const variables = [...dockerfile.matchAll(/\b([A-Z]+_[A-Z_]+)=/g)].map(([, name]) => name!)
    for (const name of variables) assert.isTrue(name === "NODE_ENV" || settingOf(name) !== undefined, name)
  })
})
