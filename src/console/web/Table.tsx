import type { ComponentChildren } from "preact"

export interface Column<A> {
  readonly name: string
  readonly cell: (row: A) => ComponentChildren
  /** `num`: to the right. `long`: text that may break anywhere. `whole`: that, and without its name on a narrow page. */
  readonly kind?: "num" | "long" | "whole"
}

interface TableProps<A> {
  readonly caption: string
  readonly columns: ReadonlyArray<Column<A>>
  readonly rows: ReadonlyArray<A>
  readonly keyOf: (row: A) => string
  /** What an empty table says. */
  readonly empty: ComponentChildren
}

/** A table that is a list of blocks on a narrow page; the roles keep it a table for screen readers there. */
export const Table = <A extends unknown>({ caption, columns, empty, keyOf, rows }: TableProps<A>) =>
  rows.length === 0
    ? <p class="empty">{empty}</p>
    : (
      <table role="table">
        <caption class="hidden-text">{caption}</caption>
        <thead role="rowgroup">
          <tr role="row">
            {columns.map(({ kind, name }) => <th role="columnheader" scope="col" class={kind}>{name}</th>)}
          </tr>
        </thead>
        <tbody role="rowgroup">
          {rows.map((row) => (
            <tr role="row" key={keyOf(row)}>
              {columns.map(({ cell, kind, name }) => (
                <td role="cell" class={kind} data-label={name}>
                  <div>{cell(row)}</div>
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    )
