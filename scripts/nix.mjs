// Checks flake.nix and flake.lock without a network: evaluates every output for every system on a stand-in for nixpkgs
// (test/nix/nixpkgs), and locks the flake again. This does not show that the packages build, or that the locked revision exists.
//   node scripts/nix.mjs [--install]     --install: if nix is missing, root gets Debian's package nix-bin
// Exit code: 0 passed, 1 failed, 77 not checked because nix is missing.
import { spawnSync } from "node:child_process"
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const run = (command, args, options = {}) => spawnSync(command, args, { cwd: root, encoding: "utf8", ...options })
const answers = (command, args) => run(command, args, { stdio: "ignore" }).status === 0
const hasNix = () => answers("nix", ["--version"])

if (!hasNix() && process.argv.includes("--install") && process.getuid() === 0 && answers("apt-get", ["--version"])) {
  const apt = (...args) => run("apt-get", ["-q", "-y", ...args], { stdio: "ignore", timeout: 120_000 })
  apt("update")
  apt("install", "--no-install-recommends", "nix-bin")
}
if (!hasNix()) {
  console.log("flake.nix: not checked, nix is missing (on Debian: apt-get install nix-bin)")
  process.exit(77)
}

const folder = mkdtempSync(join(tmpdir(), "payments-nix-"))
process.on("exit", () => {
  // nix makes its store read-only
  run("chmod", ["-R", "u+w", folder])
  rmSync(folder, { recursive: true, force: true })
})

// a flake contains the files that git knows or would add
const flake = join(folder, "flake")
const files = run("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
if (files.status !== 0) {
  console.log("flake.nix: not checked, this folder is not a git checkout")
  process.exit(77)
}
for (const file of files.stdout.split("\0")) if (file !== "" && existsSync(file)) cpSync(join(root, file), join(flake, file))

const nix = (...args) =>
  run("nix", [
    "--extra-experimental-features",
    "nix-command flakes",
    "--offline",
    "--option",
    "substitute",
    "false",
    // root without the group of build users
    "--option",
    "build-users-group",
    "",
    "--store",
    join(folder, "store"),
    ...args
  ], { env: { ...process.env, XDG_CACHE_HOME: join(folder, "cache"), XDG_CONFIG_HOME: join(folder, "config") } })

const standIn = ["--no-write-lock-file", "--override-input", "nixpkgs", `path:${join(root, "test/nix/nixpkgs")}`]

/** Evaluates one output for all systems. `of` is a Nix function of an element. */
const outputs = (name, of) =>
  nix("eval", ...standIn, "--json", `path:${flake}#${name}`, "--apply", `builtins.mapAttrs (_: builtins.mapAttrs (_: ${of}))`)

const app = "app: assert app.type == \"app\" && app.meta.description != \"\"; app.program"

const checks = {
  "flake.nix has the form of a flake": () => nix("flake", "check", "--no-build", ...standIn, `path:${flake}`),
  "packages can be evaluated": () => outputs("packages", "output: output.drvPath"),
  "checks can be evaluated": () => outputs("checks", "output: output.drvPath"),
  "development shells can be evaluated": () => outputs("devShells", "output: output.drvPath"),
  "apps are of type app, with a program and a description": () => outputs("apps", app),
  "flake.lock is there, and fits the inputs of flake.nix": () => {
    if (!existsSync(join(flake, "flake.lock"))) return { status: 1, stderr: "flake.lock is missing: nix flake lock\n" }
    const again = nix("flake", "lock", `path:${flake}`)
    if (again.status !== 0) return again
    const lock = readFileSync(join(root, "flake.lock"))
    if (!readFileSync(join(flake, "flake.lock")).equals(lock)) {
      return { status: 1, stderr: "nix flake lock changes flake.lock: commit what it writes\n" }
    }
    const { locked, original } = JSON.parse(lock.toString()).nodes.nixpkgs
    const isSame = ["type", "owner", "repo"].every((part) => locked[part] === original[part])
    return { status: isSame ? 0 : 1, stderr: `flake.lock takes nixpkgs from ${locked.owner}/${locked.repo}\n` }
  }
}

let failed = 0
for (const [what, check] of Object.entries(checks)) {
  const { status, stderr } = check()
  if (status === 0) {
    console.log(`ok    ${what}`)
  } else {
    failed += 1
    console.log(`FAIL  ${what}\n${stderr.trimEnd()}`)
  }
}
console.log(`${Object.keys(checks).length - failed} passed, ${failed} failed`)
process.exitCode = failed === 0 ? 0 : 1
