import { parser } from "@prometheus-io/lezer-promql"

/** A metric that an expression reads, with the labels that it names and the values that it asks for. */
export interface Selector {
  readonly metric: string
  readonly labels: ReadonlyArray<string>
  /** Label and value of each `=`. */
  readonly equal: ReadonlyArray<readonly [label: string, value: string]>
}

export interface Expression {
  /** True when the text is no PromQL. */
  readonly broken: boolean
  readonly selectors: ReadonlyArray<Selector>
  /** The labels by which the expression groups, and the selectors below that. */
  readonly groupings: ReadonlyArray<{ readonly labels: ReadonlyArray<string>; readonly of: ReadonlyArray<Selector> }>
}

type Node = ReturnType<typeof parser.parse>["topNode"]

const all = (node: Node, name: string): ReadonlyArray<Node> => {
  const found: Array<Node> = []
  node.cursor().iterate((_) => {
    if (_.name === name) found.push(_.node)
  })
  return found
}

/** Takes a PromQL expression apart. */
export const parse = (text: string): Expression => {
  const top = parser.parse(text).topNode
  const said = ({ from, to }: { readonly from: number; readonly to: number }) => text.slice(from, to)
  const selectorsOf = (node: Node): ReadonlyArray<Selector> =>
    all(node, "VectorSelector").map((selector) => {
      const matchers = all(selector, "UnquotedLabelMatcher")
      return {
        metric: said(selector.getChild("Identifier")!),
        labels: matchers.map((matcher) => said(matcher.getChild("LabelName")!)),
        equal: matchers
          .filter((matcher) => all(matcher, "EqlSingle").length > 0)
          .map((matcher) =>
            [said(matcher.getChild("LabelName")!), said(matcher.getChild("StringLiteral")!).slice(1, -1)] as const
          )
      }
    })
  return {
    broken: all(top, "⚠").length > 0,
    selectors: selectorsOf(top),
    groupings: all(top, "AggregateExpr").flatMap((aggregate) => {
      const modifier = aggregate.getChild("AggregateModifier")
      return modifier === null
        ? []
        : [{ labels: all(modifier, "LabelName").map(said), of: selectorsOf(aggregate) }]
    })
  }
}
