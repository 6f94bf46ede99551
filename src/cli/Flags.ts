import { Args, HelpDoc, Options, ValidationError } from "@effect/cli"
import { Either, Option, Schema } from "effect"
import { OrderId } from "../domain/Payment.js"
import type { Parse } from "../infra/runtime/Setting.js"

const decodeOrder = Schema.decodeOption(OrderId)

/** What was typed, as an error may show it: no character of it does anything to the terminal. */
const shown = (text: string) => JSON.stringify(text)

/** An option whose text is read as a setting's is: one grammar for both, and one line that says what is wrong. */
export const option = <A>(name: string, parse: Parse<A>, pseudoName: string) =>
  Options.text(name).pipe(
    Options.withPseudoName(pseudoName),
    Options.mapEffect((text) =>
      Either.mapLeft(
        parse(text),
        (problem) => ValidationError.invalidValue(HelpDoc.p(`--${name} ${problem}: ${shown(text)}`))
      )
    )
  )

/**
 * The decimal digits of an order, and nothing that only JavaScript takes for a number: `0x10` is a slip, and must not pay
 * order 16. A zero in front is one too: elsewhere `016` is 14.
 */
export const orderNumber: Parse<OrderId> = (text) =>
  Option.match(/^[1-9][0-9]{0,18}$/.test(text) ? decodeOrder(BigInt(text)) : Option.none(), {
    onNone: () => Either.left("is not a whole number from 1 to 9223372036854775807, in decimal digits"),
    onSome: Either.right
  })

/** The argument that names an order. */
export const orderId = Args.text({ name: "order_id" }).pipe(
  Args.mapEffect((text) =>
    Either.mapLeft(orderNumber(text), (problem) => HelpDoc.p(`order_id ${problem}: ${shown(text)}`))
  ),
  Args.withDescription("The order: a whole number from 1 to 9223372036854775807")
)
