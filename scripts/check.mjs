// Checks types and Effect diagnostics in one pass. With --lint, eslint also runs, on the types of that pass: alone it would find
// them all once more.
// The pass needs a patched compiler: it is a copy, so that node_modules stays as npm installed it.
import { ESLint } from "eslint"
import { execFileSync } from "node:child_process"
import { cpSync, existsSync, readFileSync, renameSync, rmSync } from "node:fs"
import { createRequire } from "node:module"
import { dirname, join, resolve } from "node:path"
import { fileURLToPath } from "node:url"

process.chdir(dirname(dirname(fileURLToPath(import.meta.url))))

const versionOf = (name) => JSON.parse(readFileSync(`node_modules/${name}/package.json`, "utf8")).version
const compiler = join(".local", "check", `typescript-${versionOf("typescript")}-effect-${versionOf("@effect/language-service")}`)

if (!existsSync(compiler)) {
  const half = `${compiler}.${process.pid}`
  cpSync("node_modules/typescript", half, { recursive: true })
  execFileSync("node_modules/.bin/effect-language-service", ["patch", "--dir", half], { stdio: "pipe" })
  rmSync(compiler, { recursive: true, force: true })
  renameSync(half, compiler)
}

const ts = createRequire(import.meta.url)(resolve(compiler, "lib", "typescript.js"))

const host = { getCanonicalFileName: (name) => name, getCurrentDirectory: ts.sys.getCurrentDirectory, getNewLine: () => "\n" }
const show = (diagnostics) => process.stdout.write(ts.formatDiagnosticsWithColorAndContext(diagnostics, host))

const { errors, fileNames, options } = ts.getParsedCommandLineOfConfigFile("tsconfig.json", { noEmit: true }, {
  ...ts.sys,
  onUnRecoverableConfigFileDiagnostic: (diagnostic) => {
    show([diagnostic])
    process.exit(1)
  }
})
const program = ts.createProgram({ rootNames: fileNames, options, configFileParsingDiagnostics: errors })
const diagnostics = ts.getPreEmitDiagnostics(program)
show(diagnostics)
const { Error: error, Warning: warning } = ts.DiagnosticCategory
let ok = !diagnostics.some(({ category }) => category === error || category === warning)

if (process.argv.includes("--lint")) {
  const eslint = new ESLint({
    overrideConfig: { files: ["**/*.{ts,tsx}"], languageOptions: { parserOptions: { project: null, programs: [program] } } }
  })
  const results = await eslint.lintFiles(["."])
  process.stdout.write(await (await eslint.loadFormatter("stylish")).format(results))
  ok &&= results.every(({ errorCount }) => errorCount === 0)
}
process.exitCode = ok ? 0 : 1
