// Checks the Helm chart: lint, the objects that it makes of each file in deploy/helm/examples (the same as in test/deploy/rendered),
// these against the schemas of Kubernetes, of the Prometheus operator and of KEDA, and values that it must refuse.
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs"
import { basename, join } from "node:path"
import { pathToFileURL } from "node:url"
import { parseAllDocuments } from "yaml"
import { checks, helm, npm, python, root, run, succeeds } from "./tools.mjs"

const usage = "usage: node scripts/check-chart.mjs [--update]\n\n--update writes test/deploy/rendered anew instead of comparing with it."

const chart = "deploy/helm/payments"
const newest = "1.37"

/** The examples, with the version of Kubernetes that a comment `# kubernetes:` names. */
const examples = readdirSync(join(root, "deploy/helm/examples")).map((file) => {
  const values = `deploy/helm/examples/${file}`
  const [, kubernetes = newest] = /^# kubernetes: (\S+)/m.exec(readFileSync(join(root, values), "utf8")) ?? []
  return { name: basename(file, ".yaml"), values, kubernetes, rendered: `test/deploy/rendered/${file}` }
})

/** What the chart must refuse, and a word of its reason. */
const refused = [
  ["a password among the settings", ["--set", "settings.REDIS_PASSWORD=x"], "REDIS_PASSWORD"],
  ["a password in a URL among the settings", ["--set", "settings.DATABASE_URL=postgres://a:b@c/d"], "DATABASE_URL"],
  [
    "a password of Sentinels among the settings",
    ["--set", "settings.REDIS_URL=redis+sentinel://a/main?sentinel_password=x"],
    "REDIS_URL"
  ],
  ["open servers without consent", ["--set", "insecure=false"], "HTTP_TLS_CERT"],
  ["no database", ["--set", "files.DATABASE_URL_FILE=null"], "DATABASE_URL_FILE"],
  ["a role that does not exist", ["--set", "workloads.server.roles={api}"], "roles"],
  ["a value that does not exist", ["--set", "replicaCount=2"], "replicaCount"]
]

const firstDifference = (expected, actual) => {
  const [before, after] = [expected.split("\n"), actual.split("\n")]
  const line = after.findIndex((text, n) => text !== before[n])
  return `line ${line + 1}: expected ${JSON.stringify(before[line])}, got ${JSON.stringify(after[line])}`
}

const main = async ([option]) => {
  if (option !== undefined && option !== "--update") {
    console.error(usage)
    return option === "--help" ? 0 : 2
  }
  const { check, end, notChecked } = checks()
  const { program, reason } = helm()
  const template = ({ kubernetes, values }, more = []) =>
    run(program, ["template", "payments", chart, "--namespace", "payments", "--kube-version", kubernetes, "--values", values, ...more])

  for (const example of examples) {
    const { kubernetes, name, rendered, values } = example
    if (program === undefined) {
      notChecked(`helm lint and template: ${name}`, reason)
      continue
    }
    check(`helm lint: ${name}`, succeeds(program, ["lint", chart, "--strict", "--quiet", "--kube-version", kubernetes, "--values", values]))
    check(`helm template: ${name}`, () => {
      const { code, output, stdout } = template(example)
      if (code !== 0) return output
      if (option === "--update") {
        mkdirSync(join(root, "test/deploy/rendered"), { recursive: true })
        writeFileSync(join(root, rendered), stdout)
      }
      const expected = readFileSync(join(root, rendered), "utf8")
      return expected === stdout
        ? undefined
        : `not as ${rendered}, ${firstDifference(expected, stdout)}\nnode scripts/check-chart.mjs --update`
    })
  }
  for (const [what, more, word] of program === undefined ? [] : refused) {
    check(`helm refuses ${what}`, () => {
      const { code, output } = template(examples.find(({ name }) => name === "minimal"), more)
      if (code === 0) return "it does not"
      return output.includes(word) ? undefined : output
    })
  }

  const schemas = python("kubernetes", ["kubernetes-validate==1.37.0"])
  for (const { kubernetes, name, rendered } of examples) {
    const title = `schemas of Kubernetes ${kubernetes}: ${name}`
    if (schemas.bin === undefined) notChecked(title, schemas.reason)
    else check(title, succeeds(join(schemas.bin, "kubernetes-validate"), ["--kubernetes-version", kubernetes, "--strict", "--quiet", "--no-warn", rendered]))
  }

  const operators = npm("operators", ["@kubernetes-models/keda@2.0.0", "@kubernetes-models/prometheus-operator@6.0.0"])
  const title = "schemas of KEDA and the Prometheus operator"
  if (operators.folder === undefined) notChecked(title, operators.reason)
  else {
    const { folder } = operators
    const models = (path) => import(pathToFileURL(join(folder, "node_modules/@kubernetes-models", `${path}.js`)))
    const kinds = {
      "keda.sh/v1alpha1 ScaledObject": (await models("keda/keda.sh/v1alpha1/ScaledObject")).ScaledObject,
      "monitoring.coreos.com/v1 ServiceMonitor":
        (await models("prometheus-operator/monitoring.coreos.com/v1/ServiceMonitor")).ServiceMonitor
    }
    check(title, () => {
      const problems = []
      const seen = new Set()
      for (const { rendered } of examples) {
        for (const document of parseAllDocuments(readFileSync(join(root, rendered), "utf8"))) {
          const object = document.toJS()
          const kind = `${object?.apiVersion} ${object?.kind}`
          if (kinds[kind] === undefined) continue
          seen.add(kind)
          try {
            new kinds[kind](object).validate()
          } catch (error) {
            problems.push(`${rendered}: ${kind} ${object.metadata.name}: ${error.message}`)
          }
        }
      }
      const missing = Object.keys(kinds).filter((kind) => !seen.has(kind))
      if (missing.length > 0) problems.push(`no example has ${missing.join(", ")}`)
      return problems.length === 0 ? undefined : problems.join("\n")
    })
  }
  end()
  return process.exitCode
}

process.exitCode = await main(process.argv.slice(2))
