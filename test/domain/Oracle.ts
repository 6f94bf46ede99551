import type * as InventoryEvent from "../../src/domain/InventoryEvent.js"
import { OrderId } from "../../src/domain/Payment.js"

/** A number as it is written. */
export class Written {
  constructor(readonly number: string) {}
}

/** The oracle: a strict parser of JSON that leaves each number as it is written. Throws where the text is not JSON. */
export const parse = (text: string): unknown => {
  let rest = text
  const take = (pattern: RegExp): string | undefined => {
    const found = pattern.exec(rest)?.[0]
    if (found !== undefined) rest = rest.slice(found.length)
    return found
  }
  const space = () => take(/^[ \t\n\r]*/)
  const need = (pattern: RegExp) => {
    space()
    const found = take(pattern)
    if (found === undefined) throw new Error("not JSON")
    return found
  }
  const items = <A>(end: RegExp, item: () => A): Array<A> => {
    space()
    if (take(end) !== undefined) return []
    const found = [item()]
    while (space(), take(/^,/) !== undefined) found.push(item())
    need(end)
    return found
  }
  const escapes: Record<string, string> = { b: "\b", f: "\f", n: "\n", r: "\r", t: "\t" }
  const string = () =>
    need(/^"(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*"/).slice(1, -1).replace(
      /\\(?:u(....)|(.))/g,
      (_, unit, letter) =>
        unit === undefined ? escapes[letter] ?? letter : String.fromCharCode(Number.parseInt(unit, 16))
    )
  const value = (): unknown => {
    space()
    if (take(/^\{/) !== undefined) {
      return new Map(items(/^\}/, () => {
        const name = string()
        need(/^:/)
        return [name, value()]
      }))
    }
    if (take(/^\[/) !== undefined) return items(/^\]/, value)
    if (rest.startsWith("\"")) return string()
    const word = take(/^(?:true|false|null)/)
    if (word !== undefined) return JSON.parse(word)
    return new Written(need(/^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/))
  }
  const found = value()
  space()
  if (rest !== "") throw new Error("not JSON")
  return found
}

/** What the contract makes of a text, by the oracle: an event, or nothing. */
export const expected = (text: string): InventoryEvent.InventoryEvent | undefined => {
  let found: unknown
  try {
    found = parse(text)
  } catch {
    return undefined
  }
  if (!(found instanceof Map)) return undefined
  const [uuid, order, status] = ["idempotent_key", "order_id", "status"].map((name) => found.get(name))
  if (typeof uuid !== "string" || typeof status !== "string" || !(order instanceof Written)) return undefined
  if (!/^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(uuid) || !/^\d+$/.test(order.number)) return undefined
  const orderId = BigInt(order.number)
  if (orderId < 1n || orderId > 2n ** 63n - 1n) return undefined
  return { idempotentKey: uuid.toLowerCase(), orderId: OrderId.make(orderId), status }
}
