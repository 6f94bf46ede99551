import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { parseAllDocuments } from "yaml"
import type { Role } from "../../src/ops/Parts.js"

/** A variable of a container: a value, or a reference to a field of its pod. */
export interface Variable {
  readonly name: string
  readonly value?: string
}

interface Probe {
  readonly httpGet: { readonly path: string; readonly port: string; readonly scheme: string }
  readonly periodSeconds: number
  readonly timeoutSeconds: number
  readonly failureThreshold: number
}

export interface Container {
  readonly args: readonly [string, ...ReadonlyArray<string>]
  readonly env: ReadonlyArray<Variable>
  readonly ports: ReadonlyArray<{ readonly name: string; readonly containerPort: number }>
  readonly startupProbe: Probe
  readonly livenessProbe: Probe
  readonly readinessProbe: Probe
  readonly lifecycle?: {
    readonly preStop: {
      readonly sleep?: { readonly seconds: number }
      readonly exec?: { readonly command: ReadonlyArray<string> }
    }
  }
  readonly securityContext: Readonly<Record<string, unknown>>
  readonly resources: { readonly requests: unknown; readonly limits: Readonly<Record<string, string>> }
  readonly volumeMounts: ReadonlyArray<{ readonly name: string; readonly mountPath: string }>
}

interface PodSpec {
  readonly automountServiceAccountToken: boolean
  readonly enableServiceLinks: boolean
  readonly securityContext: Readonly<Record<string, unknown>>
  readonly terminationGracePeriodSeconds: number
  readonly containers: readonly [Container]
  readonly volumes: ReadonlyArray<{ readonly name: string; readonly secret?: { readonly secretName: string } }>
}

/** An object that the chart makes: a Deployment or a Job has a pod. */
export interface Manifest {
  readonly kind: string
  readonly metadata: {
    readonly name: string
    readonly labels: Readonly<Record<string, string>>
    readonly annotations?: Readonly<Record<string, string>>
  }
  readonly spec: {
    readonly replicas?: number
    readonly minReadySeconds: number
    readonly strategy: { readonly rollingUpdate: { readonly maxUnavailable: number; readonly maxSurge: number } }
    readonly template: {
      readonly metadata: { readonly labels: Readonly<Record<string, string>> }
      readonly spec: PodSpec
    }
  }
}

/** What the chart makes of deploy/helm/examples/`name`.yaml; `node scripts/check-chart.mjs` keeps it current. */
export const rendered = (name: string): ReadonlyArray<Manifest> =>
  parseAllDocuments(readFileSync(fileURLToPath(new URL(`rendered/${name}.yaml`, import.meta.url)), "utf8"))
    .map((document) => document.toJS() as Manifest)

/** A Deployment with what its pods say. */
export const deployments = (manifests: ReadonlyArray<Manifest>) =>
  manifests.filter(({ kind }) => kind === "Deployment").map((manifest) => {
    const { spec } = manifest.spec.template
    const [container] = spec.containers
    return { manifest, spec, container, roles: container.args.slice(1) as ReadonlyArray<Role> }
  })

/** Seconds between the end of the traffic to a pod and its SIGTERM. */
export const pauseOf = ({ lifecycle }: Container) => {
  const { exec, sleep } = lifecycle?.preStop ?? {}
  return sleep?.seconds ?? Number(/setTimeout\(\(\) => \{\}, (\d+)\)/.exec(exec?.command.at(-1) ?? "")?.[1] ?? 0) / 1000
}

/** The value of a variable that has one. */
export const valueOf = ({ env }: Container, name: string) => env.find((variable) => variable.name === name)?.value
