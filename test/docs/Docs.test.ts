import { Command } from "@effect/cli"
import { SqlClient } from "@effect/sql"
import { assert, describe, it, layer } from "@effect/vitest"
import { Effect, HashMap } from "effect"
import { existsSync, readdirSync, readFileSync } from "node:fs"
import { dirname, join, resolve } from "node:path"
import { fileURLToPath } from "node:url"
import { exitCodes } from "../../src/cli/Output.js"
import { settings } from "../../src/Config.js"
import * as PgTest from "../harness/PgTest.js"

const root = fileURLToPath(new URL("../..", import.meta.url))
const read = (path: string) => readFileSync(join(root, path), "utf8")
const documents = readdirSync(join(root, "docs"), { encoding: "utf8", recursive: true }).filter((_) =>
  _.endsWith(".md")
)
const pages = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", ...documents.map((name) => `docs/${name}`)]

const code = (page: string) => [...page.matchAll(/^```(\w*)\n([\s\S]*?)^```$|`([^`\n]+)`/gm)]
const blocks = (page: string, language: string) => code(page).flatMap((_) => _[1] === language ? [_[2]!] : [])
const snippets = (page: string) => code(page).map((_) => _[2] ?? _[3]!)

/** The anchors that GitHub makes from headings. */
const anchors = (page: string) =>
  [...page.matchAll(/^#+ (.+)$/gm)].map(([, heading]) =>
    heading!.toLowerCase().replaceAll(/[^\w\- ]/g, "").replaceAll(" ", "-")
  )

describe.each(pages)("%s", (name) => {
  const page = read(name)

  it("has no dead link", () => {
    for (const [, target] of page.matchAll(/\]\(([^)]+)\)/g)) {
      if (/^https?:/.test(target!)) continue
      const [path, anchor] = target!.split("#")
      const file = path === "" ? join(root, name) : resolve(root, dirname(name), path!)
      assert.isTrue(existsSync(file), target)
      if (anchor !== undefined) assert.include(anchors(readFileSync(file, "utf8")), anchor)
    }
  })

  it("names variables that exist", () => {
    const known = new Set([
      ...Object.values(settings).map((_) => _.name),
      ...[...read("compose.yml").matchAll(/\$\{(\w+)/g)].map(([, variable]) => variable!),
      // test/proof/Bounds.ts reads it
      "PROOF_BOUNDS"
    ])
    // protocol constants that look like variables
    const words =
      /^(FAILED_PRECONDITION|DEADLINE_EXCEEDED|NOT_SERVING|NOT_FOUND|INVALID_ARGUMENT|INVALID_REQUEST|PAYMENT_(NOT_FOUND|ALREADY_SETTLED|EXPIRED)|DATABASE_UNAVAILABLE|SERVER_STOPPING|MESSAGE_TOO_LARGE|POLICY_VIOLATION|PERMISSION_DENIED|RESOURCE_EXHAUSTED|(NO|BAD)_CREDENTIAL|MISSING_SCOPE|RATE_LIMIT_EXCEEDED|KEYS_UNAVAILABLE|ERR_TLS_CERT_ALTNAME_INVALID|CERT_HAS_EXPIRED|INVALID_RECORD|INVALID_SESSION_TIMEOUT|(TOPIC_|GROUP_|TRANSACTIONAL_ID_)?AUTHORIZATION_FAILED)$/
    for (const snippet of snippets(page)) {
      for (const [variable] of snippet.matchAll(/\b[A-Z][A-Z0-9]*(_[A-Z0-9]+)+\b/g)) {
        assert.isTrue(known.has(variable) || words.test(variable), variable)
      }
    }
  })

  it("names commands that exist", () => {
    for (const snippet of snippets(page)) {
      for (const [, ...words] of snippet.matchAll(/(?:^|npx |\.\/)payments ([a-z-]+)(?: ([a-z-]+))?/gm)) {
        assert.isTrue(isCommand(words.filter((_) => _ !== undefined)), words.join(" "))
      }
    }
  })
})

type AnyCommand = Command.Command<any, any, any, any>

/** Every command of the program, with the names of those below it: src/cli exports them as `command` or `commands`. */
const commands = new Map<string, ReadonlyArray<string>>()
for (const file of readdirSync(join(root, "src/cli"))) {
  const module: { readonly command?: AnyCommand; readonly commands?: ReadonlyArray<AnyCommand> } = await import(
    `../../src/cli/${file.replace(/\.ts$/, "")}.ts`
  )
  for (const command of module.commands ?? (module.command === undefined ? [] : [module.command])) {
    // the library lists a command without subcommands as its own subcommand
    const below = Array.from(HashMap.keys(Command.getSubcommands(command)))
    for (const name of Command.getNames(command)) commands.set(name, below.filter((sub) => sub !== name))
  }
}

/** True when the first word is a command and the second a subcommand, or an argument if it has none. */
const isCommand = ([name, sub]: ReadonlyArray<string>) => {
  const below = commands.get(name!)
  return below !== undefined && (below.length === 0 || sub === undefined || below.includes(sub))
}

describe("README.md", () => {
  const page = read("README.md")

  it("names every command", () => {
    const text = snippets(page).join("\n")
    for (const [name, below] of commands) {
      assert.match(text, new RegExp(`payments ${name}\\b`))
      for (const sub of below) assert.match(text, new RegExp(`^(payments ${name} )?${sub}$`, "m"))
    }
  })

  it("has every exit code", () => {
    for (const [name, number] of Object.entries(exitCodes)) assert.include(page, `\n| ${number} |`, name)
  })

  it("uses another order in the examples with other tools than in those with the command line and npm start", () => {
    const orders = blocks(page, "sh").flatMap((block) => [...block.matchAll(/"order_id": ?(\d+)/g)].map((_) => _[1]))
    assert.lengthOf(new Set(orders), 1)
    for (const taken of ["111", "112", "113"]) assert.notInclude(orders, taken)
  })

  it("has the current table of settings", async () => {
    const script = new URL("../../scripts/config-table.mjs", import.meta.url).href
    const { replaceTable, tableOf } = await import(/* @vite-ignore */ script)
    assert.strictEqual(replaceTable(page, tableOf(settings)), page, "npx tsx scripts/config-table.mjs")
  })
})

/** The metrics of the source. */
const metrics = () => {
  const source = readdirSync(join(root, "src"), { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(".ts"))
    .map((file) => read(join("src", file)))
    .join("\n")
  return new Set(
    [...source.matchAll(/Metric\.(?:counter|gauge|histogram)\(\s*"(payments_\w+)"/g)].map(([, name]) => name!)
  )
}
const metricsIn = (page: string) => new Set(read(page).match(/\bpayments_\w+/g))

describe("docs/operations.md", () => {
  it("lists every metric of the source, and no other", () => {
    assert.sameMembers([...metricsIn("docs/operations.md")], [...metrics()])
  })
})

describe("docs/runbook.md", () => {
  it("names metrics of the source only", () => {
    assert.includeMembers([...metrics()], [...metricsIn("docs/runbook.md")])
  })
})

layer(PgTest.layer, { timeout: "30 seconds", excludeTestServices: true })("statements of docs/operations.md", (it) => {
  it.effect.each(blocks(read("docs/operations.md"), "sql"))("%s", (statement) =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* Effect.asVoid(sql.unsafe(statement))
    }))
})
