import type { Command, HelpDoc, Span, Usage } from "@effect/cli"
import { AutoCorrect, CliConfig, CommandDescriptor } from "@effect/cli"
import { HashMap, Option } from "effect"

type AnyCommand = Command.Command<any, any, any, any>
type Descriptor = CommandDescriptor.Command<any>

/** A command line that runs no command: it asks for help or the version, or names an unknown command. */
export type Wish =
  | { readonly _tag: "Help"; readonly text: string }
  | { readonly _tag: "Unknown"; readonly problem: string }
  | { readonly _tag: "Version" }

const nameOf = (descriptor: Descriptor) => Array.from(CommandDescriptor.getNames(descriptor))[0]!

/** The subcommands, sorted by name. The library lists a command without any as its own subcommand. */
const below = (descriptor: Descriptor): ReadonlyArray<Descriptor> =>
  Array.from(HashMap.values(CommandDescriptor.getSubcommands(descriptor))).filter((sub) =>
    nameOf(sub) !== nameOf(descriptor)
  ).sort((a, b) => nameOf(a) < nameOf(b) ? -1 : 1)

/** The text of a span without colours. */
export const plain = (span: Span.Span): string =>
  span._tag === "Text" || span._tag === "URI"
    ? span.value
    : span._tag === "Sequence"
    ? plain(span.left) + plain(span.right)
    : plain(span.value)

/** Sentences that the library adds to every option, or that repeat the usage line. */
const filler =
  /^(A user-defined piece of text|A true or false value|An integer|This (setting|argument) .*|One of the .*)\.?$/

const sentences = (doc: HelpDoc.HelpDoc): ReadonlyArray<string> =>
  doc._tag === "Sequence"
    ? [...sentences(doc.left), ...sentences(doc.right)]
    : doc._tag === "Paragraph" && !filler.test(plain(doc.value))
    ? [plain(doc.value)]
    : []

interface Section {
  readonly title: string
  readonly text: ReadonlyArray<string>
  readonly rows: ReadonlyArray<readonly [string, string]>
}

/** The sections of a help document, one for each header. */
const sections = (doc: HelpDoc.HelpDoc): ReadonlyArray<Section> => {
  const found: Array<Section> = []
  const visit = (doc: HelpDoc.HelpDoc): void => {
    if (doc._tag === "Sequence") return [doc.left, doc.right].forEach(visit)
    if (doc._tag === "Header") return void found.push({ title: plain(doc.value), text: [], rows: [] })
    const last = found.pop()
    if (last === undefined) return
    const rows = doc._tag === "DescriptionList"
      ? doc.definitions.map(([name, about]) =>
        [plain(name).replace(/^\((.*)\)$/, "$1"), sentences(about).join(" ")] as const
      )
      : []
    found.push({ ...last, text: [...last.text, ...sentences(doc)], rows: [...last.rows, ...rows] })
  }
  visit(doc)
  return found
}

const usage = (part: Usage.Usage): string => {
  switch (part._tag) {
    case "Empty":
    case "Mixed":
      return ""
    case "Named": {
      const name = part.names[0]!
      return name + Option.match(part.acceptedValues, {
        onNone: () => "",
        // the library lists the type of an argument as if it followed the name
        onSome: (value) => name.startsWith("<") ? "" : ` ${value}`
      })
    }
    case "Optional":
      return `[${usage(part.usage)}]`
    // no argument of this program is required several times
    case "Repeated":
      return `[${usage(part.usage)} ...]`
    case "Alternation":
      return `${usage(part.left)}|${usage(part.right)}`
    case "Concat":
      return [usage(part.left), usage(part.right)].filter((text) => text !== "").join(" ")
  }
}

const table = (rows: ReadonlyArray<readonly [string, string]>) => {
  const width = Math.max(...rows.map(([name]) => name.length))
  return rows.map(([name, about]) => `  ${name.padEnd(width)}  ${about}`.trimEnd())
}

const about = (descriptor: Descriptor) =>
  sections(CommandDescriptor.getHelp(descriptor, CliConfig.make({ showBuiltIns: false })))

const description = (descriptor: Descriptor) => about(descriptor)[0]?.text.join(" ") ?? ""

/** The help of a command as plain text, for pagers, logs and pipes. */
const helpOf = (path: ReadonlyArray<string>, descriptor: Descriptor, subcommands: ReadonlyArray<Descriptor>) => {
  const line = subcommands.length > 0
    ? "<command>"
    : usage(CommandDescriptor.getUsage(descriptor)).replace(/^\S+ ?/, "")
  const details = about(descriptor).slice(1).filter(({ rows }) => rows.length > 0)
  const names = (sub: Descriptor): ReadonlyArray<readonly [string, string]> => [
    [nameOf(sub), description(sub)],
    ...below(sub).map((deeper) => [`${nameOf(sub)} ${nameOf(deeper)}`, description(deeper)] as const)
  ]
  return [
    description(descriptor),
    "",
    `Usage: ${[...path, line].join(" ").trimEnd()}`,
    ...subcommands.length === 0
      ? details.flatMap(({ rows, title }) => ["", title[0]! + title.slice(1).toLowerCase(), ...table(rows)])
      : [
        "",
        "Commands",
        ...table(subcommands.flatMap(names)),
        "",
        `${path.join(" ")} <command> --help describes a command.`
      ]
  ].join("\n")
}

const unknown = (path: ReadonlyArray<string>, word: string, known: ReadonlyArray<string>): Wish => {
  const distance = (name: string) => AutoCorrect.levensteinDistance(word, name, CliConfig.defaultConfig)
  const [nearest] = known.filter((name) => distance(name) <= 2).sort((a, b) => distance(a) - distance(b))
  const hint = nearest === undefined ? "" : ` Did you mean "${nearest}"?`
  return {
    _tag: "Unknown",
    problem: `there is no command ${JSON.stringify([...path.slice(1), word].join(" "))}.${hint} ` +
      `${path.join(" ")} --help lists the commands`
  }
}

/** The wish of a command line; none when it is for the parser. `root` is the program, `commands` are its subcommands. */
export const wish = (
  root: AnyCommand,
  commands: ReadonlyArray<AnyCommand>,
  args: ReadonlyArray<string>
): Option.Option<Wish> => {
  const end = args.indexOf("--")
  const words = end < 0 ? args : args.slice(0, end)
  const help = words.includes("--help") || words.includes("-h")
  const look = (path: ReadonlyArray<string>, at: Descriptor, subs: ReadonlyArray<Descriptor>): Option.Option<Wish> => {
    const text = Option.some<Wish>({ _tag: "Help", text: helpOf(path, at, subs) })
    const word = words[path.length - 1]
    if (subs.length === 0) return help ? text : Option.none()
    if (word === undefined || word === "--help" || word === "-h") return text
    const next = subs.find((sub) => nameOf(sub) === word)
    if (next !== undefined) return look([...path, word], next, below(next))
    // the parser reports an option in the place of a command
    return help ? text : word.startsWith("-") ? Option.none() : Option.some(unknown(path, word, subs.map(nameOf)))
  }
  return words[0] === "--version"
    ? Option.some({ _tag: "Version" })
    : look([nameOf(root.descriptor)], root.descriptor, commands.map(({ descriptor }) => descriptor))
}
