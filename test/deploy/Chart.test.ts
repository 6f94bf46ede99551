import { assert, describe, it } from "@effect/vitest"
import { Duration, Either } from "effect"
import { existsSync, readdirSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { settings } from "../../src/Config.js"
import type { Setting } from "../../src/infra/runtime/Setting.js"
import { duration } from "../../src/infra/runtime/Setting.js"
import { roles } from "../../src/ops/Parts.js"
import type { Variable } from "./Rendered.js"
import { deployments, pauseOf, rendered, valueOf } from "./Rendered.js"

const inCheckout = (path: string) => fileURLToPath(new URL(`../../${path}`, import.meta.url))
const examples = readdirSync(inCheckout("deploy/helm/examples")).map((file) => file.replace(/\.yaml$/, ""))
const all = examples.map((name) => {
  const manifests = rendered(name)
  return { name, manifests, parts: deployments(manifests), jobs: manifests.filter(({ kind }) => kind === "Job") }
})
const pods = all.flatMap(({ jobs, name, parts }) => [
  ...parts.map(({ container, manifest, spec }) => ({ where: `${name}: ${manifest.metadata.name}`, spec, container })),
  ...jobs.map(({ metadata, spec }) => ({
    where: `${name}: ${metadata.name}`,
    spec: spec.template.spec,
    container: spec.template.spec.containers[0]
  }))
])

const known: Record<string, Setting<any>> = Object.fromEntries(Object.values(settings).map((_) => [_.name, _]))
const seconds = (text: string) => Duration.toSeconds(Either.getOrThrow(duration(0)(text)))

/** Every process with a token serves the console: the deployment has no process for it alone. */
const work = roles.filter((role) => role !== "console")

describe("deploy/helm/payments", () => {
  it("has objects for each example, and runs each role", () => {
    assert.deepStrictEqual(
      readdirSync(inCheckout("test/deploy/rendered")),
      readdirSync(inCheckout("deploy/helm/examples"))
    )
    for (const { name, parts } of all) {
      assert.sameMembers(parts.flatMap(({ roles }) => [...roles]), work, name)
    }
  })

  it("sets only variables that exist, to valid values, and each once", () => {
    const isOwn = ({ name }: Variable) => name === "POD_NAME"
    for (const { container: { env }, where } of pods) {
      assert.strictEqual(new Set(env.map(({ name }) => name)).size, env.length, where)
      for (const { name, value } of env.filter((variable) => !isOwn(variable))) {
        assert.property(known, name, where)
        // files exist in the container only
        if (!value!.startsWith("/run/secrets/")) {
          assert.isTrue(Either.isRight(known[name]!.parse(value!)), `${where}: ${name}=${value}`)
        }
      }
    }
  })

  it("asks for the readiness of the role that gets traffic, and restarts only what does not answer", () => {
    for (const { name, parts } of all) {
      for (const { container, manifest, roles } of parts) {
        const where = `${name}: ${manifest.metadata.name}`
        const expected = roles.includes("grpc")
          ? "/readyz/grpc"
          : roles.length === 1
          ? `/readyz/${roles[0]}`
          : "/readyz"
        assert.strictEqual(container.readinessProbe.httpGet.path, expected, where)
        assert.strictEqual(container.livenessProbe.httpGet.path, "/livez", where)
        assert.strictEqual(container.startupProbe.httpGet.path, "/livez", where)
        const scheme = valueOf(container, "HTTP_TLS_CERT") === undefined ? "HTTP" : "HTTPS"
        for (const probe of [container.readinessProbe, container.livenessProbe, container.startupProbe]) {
          assert.strictEqual(probe.httpGet.scheme, scheme, where)
        }
        const port = (of: string) => container.ports.find((_) => _.name === of)?.containerPort
        assert.strictEqual(valueOf(container, "HTTP_ADDR"), `0.0.0.0:${port("http")}`, where)
        assert.strictEqual(valueOf(container, "GRPC_ADDR") !== undefined, port("grpc") !== undefined, where)
        assert.strictEqual(roles.includes("grpc"), port("grpc") !== undefined, where)
      }
    }
  })

  it("pauses before the SIGTERM where there is traffic, and gives a stop as much time as the service needs", () => {
    for (const { name, parts } of all) {
      for (const { container, manifest, roles, spec } of parts) {
        const where = `${name}: ${manifest.metadata.name}`
        const pause = pauseOf(container)
        assert.strictEqual(pause >= 1, roles.includes("grpc"), where)
        const stop = seconds(valueOf(container, "SHUTDOWN_TIMEOUT")!)
        assert.isAtLeast(spec.terminationGracePeriodSeconds, pause + stop + 2, where)
        assert.deepStrictEqual(manifest.spec.strategy.rollingUpdate, { maxUnavailable: 0, maxSurge: 1 }, where)
        const { failureThreshold, periodSeconds } = container.readinessProbe
        assert.isAtMost(failureThreshold * periodSeconds, pause === 0 ? Infinity : pause, where)
      }
    }
    const [server] = deployments(rendered("old-cluster")).filter(({ roles }) => roles.includes("grpc"))
    assert.deepStrictEqual(Object.keys(server!.container.lifecycle!.preStop), ["exec"])
  })

  it("runs without root, token, service links and a writable file system", () => {
    for (const { container, spec, where } of pods) {
      assert.isFalse(spec.automountServiceAccountToken, where)
      assert.isFalse(spec.enableServiceLinks, where)
      assert.deepInclude(spec.securityContext, { runAsNonRoot: true, runAsUser: 1000 }, where)
      assert.deepStrictEqual(container.securityContext, {
        allowPrivilegeEscalation: false,
        readOnlyRootFilesystem: true,
        capabilities: { drop: ["ALL"] }
      }, where)
      assert.property(container.resources.limits, "memory", where)
    }
  })

  it("gives a part the files of the settings that it uses, and no other Secret", () => {
    const { jobs, parts } = all.find(({ name }) => name === "production")!
    const secrets = (of: (typeof pods)[number]["spec"]) => of.volumes.flatMap(({ secret }) => secret?.secretName ?? [])
    const ofRole = Object.fromEntries(parts.map(({ roles, spec }) => [roles.join(), secrets(spec)]))
    const common = ["payments-admin", "payments-database", "payments-tls"]
    assert.sameMembers(ofRole["consumer"]!, [...common, "payments-kafka", "payments-redis"])
    assert.sameMembers(ofRole["relay"]!, [...common, "payments-kafka"])
    assert.sameMembers(ofRole["grpc"]!, [...common, "payments-tokens"])
    assert.deepStrictEqual(jobs.map(({ spec }) => secrets(spec.template.spec)), [["payments-owner"]])
    for (const { container, spec, where } of pods) {
      assert.sameMembers(container.volumeMounts.map(({ name }) => name), spec.volumes.map(({ name }) => name), where)
      for (const { value = "" } of container.env.filter(({ value }) => value?.startsWith("/run/secrets/"))) {
        assert.include(
          container.volumeMounts.map(({ mountPath }) => mountPath),
          value.slice(0, value.lastIndexOf("/")),
          where
        )
      }
    }
  })

  it("migrates before the pods are replaced, or by the pods", () => {
    for (const { jobs, name, parts } of all) {
      const byPods = name === "old-cluster"
      assert.strictEqual(jobs.length, byPods ? 0 : 1, name)
      for (const { container } of parts) {
        assert.strictEqual(valueOf(container, "MIGRATE_ON_START"), byPods ? undefined : "false", name)
      }
      for (const { metadata, spec } of jobs) {
        assert.strictEqual(metadata.annotations?.["helm.sh/hook"], "pre-install,pre-upgrade", name)
        assert.strictEqual(spec.template.spec.containers[0].args[0], "migrate", name)
      }
    }
  })

  it("refuses each secret among the settings", () => {
    const schema = JSON.parse(readFileSync(inCheckout("deploy/helm/payments/values.schema.json"), "utf8"))
    const { enum: refused } = schema.properties.settings.propertyNames.not as { readonly enum: ReadonlyArray<string> }
    const secrets = Object.keys(known).filter((name) => `${name}_FILE` in known && !name.endsWith("_URL"))
    assert.includeMembers([...refused], secrets)
    for (const name of refused) assert.property(known, name)
    assert.isTrue(existsSync(inCheckout("deploy/helm/payments/values.yaml")))
  })
})
