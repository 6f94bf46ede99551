import { Command } from "@effect/cli"
import { assert, describe, it } from "@effect/vitest"
import { Option } from "effect"
import * as Help from "../../src/cli/Help.js"
import * as Local from "../../src/cli/Local.js"
import * as Operate from "../../src/cli/Operate.js"
import * as Saga from "../../src/cli/Saga.js"

const commands = [...Operate.commands, Local.command, ...Saga.commands]
const root = Command.make("payments").pipe(
  Command.withDescription("Payments"),
  Command.withSubcommands([...Operate.commands, Local.command, ...Saga.commands])
)
const wish = (...args: ReadonlyArray<string>) => Option.getOrUndefined(Help.wish(root, commands, args))
const help = (...args: ReadonlyArray<string>) => {
  const found = wish(...args)
  return found?._tag === "Help" ? found.text : assert.fail(JSON.stringify(found))
}

describe("help", () => {
  it("is plain text about the requested command, with its full name in the usage line", () => {
    const usages = {
      "serve --help": "payments serve [<part> ...]",
      "local up -h": "payments local up [--tls]",
      "local --help": "payments local <command>",
      local: "payments local <command>",
      "reserve 5 --help": "payments reserve [--key uuid] [--status status] [--json] <order_id>",
      "watch --help": "payments watch [--from-beginning] [--json]",
      "--help": "payments <command>",
      "": "payments <command>"
    }
    for (const [args, usage] of Object.entries(usages)) {
      const text = help(...args.split(" ").filter((word) => word !== ""))
      assert.include(text.split("\n"), `Usage: ${usage}`, args)

      assert.notMatch(text, /\u001b|A user-defined piece of text|A true or false value|This (setting|argument)/, args)
      assert.notMatch(text, /\n\n\n|\s$/, args)
    }
  })

  it("lists every command with its description", () => {
    const text = help("--help")
    for (const name of ["serve", "migrate", "config", "local", "local up", "local status", "reserve", "pay", "watch"]) {
      assert.match(text, new RegExp(`^  ${name} +[A-Z].{10,}$`, "m"))
    }
  })

  it("describes every option and argument", () => {
    const lines = help("reserve", "--help").split("\n").filter((line) => line.startsWith("  "))
    assert.lengthOf(lines, 4)
    for (const line of lines) assert.match(line, /^ {2}\S+( \S+)? {2,}\S.+$/)
  })
})

describe("a command that does not exist", () => {
  it("is an error that suggests the nearest existing command", () => {
    const problems = {
      "pya 1": "there is no command \"pya\". Did you mean \"pay\"? payments --help lists the commands",
      "local dwon":
        "there is no command \"local dwon\". Did you mean \"down\"? payments local --help lists the commands",
      "unheard-of": "there is no command \"unheard-of\". payments --help lists the commands"
    }
    for (const [args, problem] of Object.entries(problems)) {
      assert.deepStrictEqual(wish(...args.split(" ")), { _tag: "Unknown", problem })
    }
  })

  it("is not reported for existing commands, whatever their arguments", () => {
    for (const args of ["pay 1", "reserve 1 --status pay", "local up", "pay -- --help", "--json pay 1"]) {
      assert.isUndefined(wish(...args.split(" ")), args)
    }
  })
})
