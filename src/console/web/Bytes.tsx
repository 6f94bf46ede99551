import { useState } from "preact/hooks"
import type * as Wire from "./Wire.js"

/** Lays JSON text out, without reading its numbers: JavaScript would round those above 2^53. Undefined when it is no JSON. */
export const layOut = (text: string): string | undefined => {
  try {
    JSON.parse(text)
  } catch {
    return undefined
  }
  let depth = 0
  const line = () => `\n${"  ".repeat(depth)}`
  return text.replace(/"(?:[^"\\]|\\.)*"|\s+|[{[]\s*[}\]]|[{}[\],:]/g, (token) => {
    if (/^\s/.test(token)) return ""
    if (token.startsWith("\"")) return token
    if (/^[{[]\s*[}\]]$/.test(token)) return token.replace(/\s/g, "")
    if (token === "{" || token === "[") {
      depth++
      return token + line()
    }
    if (token === "}" || token === "]") {
      depth--
      return line() + token
    }
    return token === "," ? token + line() : ": "
  })
}

/** Hexadecimal digits as lines of 16 bytes, with offset and printable characters. */
const dump = (hex: string) => {
  const lines: Array<string> = []
  for (let at = 0; at < hex.length; at += 32) {
    const bytes = hex.slice(at, at + 32).match(/../g) ?? []
    const text = bytes.map((byte) => {
      const code = Number.parseInt(byte, 16)
      return code >= 32 && code < 127 ? String.fromCharCode(code) : "."
    }).join("")
    lines.push(`${(at / 2).toString(16).padStart(6, "0")}  ${bytes.join(" ").padEnd(47)}  ${text}`)
  }
  return lines.join("\n")
}

type Form = "text" | "JSON" | "hex"

/** Bytes of strangers as text, JSON or hex. All of it is text for the browser. */
export const BytesView = ({ bytes, name }: { readonly bytes: Wire.Bytes | null; readonly name: string }) => {
  const json = bytes?.text === null || bytes === null ? undefined : layOut(bytes.text)
  const [chosen, choose] = useState<Form>()
  if (bytes === null) return <p class="muted">{name}: none</p>
  const forms: ReadonlyArray<Form> = [
    ...(json === undefined ? [] : ["JSON" as const]),
    ...(bytes.text === null ? [] : ["text" as const]),
    "hex"
  ]
  const form = chosen !== undefined && forms.includes(chosen) ? chosen : forms[0]!
  return (
    <div>
      <div class="row small">
        <span class="muted">{name}, {bytes.bytes} bytes{bytes.cut ? ", only the beginning is here" : ""}</span>
        <span role="group" aria-label={`Form of ${name}`}>
          {forms.map((one) => (
            <button
              type="button"
              class="plain"
              aria-pressed={one === form}
              onClick={() => choose(one)}
            >
              {one === form ? <b>{one}</b> : one}
            </button>
          ))}
        </span>
      </div>
      <pre
        tabIndex={0}
        aria-label={`${name} as ${form}`}
      >{form === "JSON" ? json : form === "text" ? bytes.text : dump(bytes.hex)}</pre>
    </div>
  )
}

/** Bytes in one line of a table. */
export const short = (bytes: Wire.Bytes | null, most = 160) =>
  bytes === null ? "–" : bytes.text === null ?
    `0x${bytes.hex.slice(0, 40)}${bytes.hex.length > 40 ? "…" : ""}`
    : bytes.text.length > most
    ? `${bytes.text.slice(0, most)}…`
    : bytes.text
