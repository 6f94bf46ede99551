import { Args, HelpDoc, Options, ValidationError } from "@effect/cli"
import { Duration, Either, Option, Schema } from "effect"
import { OrderId } from "../domain/Payment.js"
import type { Parse } from "../infra/runtime/Setting.js"
import { duration } from "../infra/runtime/Setting.js"

const decodeOrder = Schema.decodeOption(OrderId)

/** An argument as an error shows it: quoted, so that no control character reaches the terminal. */
const shown = (text: string) => JSON.stringify(text)

/** An option that is parsed like a setting; an invalid value is an error of one line. */
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

/** The same for an option that may be given several times. */
export const repeated = <A>(name: string, parse: Parse<A>, pseudoName: string, about: string) =>
  Options.text(name).pipe(
    Options.withPseudoName(pseudoName),
    Options.withDescription(about),
    Options.repeated,
    Options.mapEffect((texts) =>
      Either.all(texts.map((text) =>
        Either.mapLeft(
          parse(text),
          (problem) => ValidationError.invalidValue(HelpDoc.p(`--${name} ${problem}: ${shown(text)}`))
        )
      ))
    )
  )

/**
 * Parses an order id from decimal digits only. JavaScript also reads `0x10` as 16; a typing error must not pay order 16. A
 * leading zero is an error too, because other programs read `016` as 14.
 */
export const orderNumber: Parse<OrderId> = (text) =>
  Option.match(/^[1-9][0-9]{0,18}$/.test(text) ? decodeOrder(BigInt(text)) : Option.none(), {
    onNone: () => Either.left("is not a whole number from 1 to 9223372036854775807, in decimal digits"),
    onSome: Either.right
  })

/** The argument `order_id`. */
export const orderId = Args.text({ name: "order_id" }).pipe(
  Args.mapEffect((text) =>
    Either.mapLeft(orderNumber(text), (problem) => HelpDoc.p(`order_id ${problem}: ${shown(text)}`))
  ),
  Args.withDescription("The order: a whole number from 1 to 9223372036854775807")
)

/** Parses a time, or a duration before now. Returns milliseconds of the epoch. */
export const parseTime: Parse<(now: number) => number> = (text) => {
  const time = Date.parse(text)
  return /^\d{4}-\d\d-\d\d/.test(text) && !Number.isNaN(time)
    ? Either.right(() => time)
    : Either.mapBoth(duration("1 millis")(text), {
      onLeft: () => "is neither a duration (24h) nor a time (2024-12-31T08:00:00Z)",
      onRight: (ago) => (now: number) => now - Duration.toMillis(ago)
    })
}

/** An option with a time: a duration before now (`24h`), or a time. */
export const time = (name: string, about: string) =>
  option(name, parseTime, "time").pipe(
    Options.withDescription(`${about}: a duration before now (24h) or a time (2024-12-31T08:00:00Z)`),
    Options.optional
  )
