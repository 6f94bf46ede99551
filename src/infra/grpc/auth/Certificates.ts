import { Effect, Either } from "effect"
import type { Socket } from "node:net"
import type { PeerCertificate } from "node:tls"
import { TLSSocket } from "node:tls"
import type { Caller } from "../../auth/Caller.js"
import { isName } from "../../auth/Caller.js"
import type { Parse } from "../../runtime/Setting.js"
import type { Authenticator } from "./Authenticator.js"
import { badCredential, noCredential } from "./Authenticator.js"

/** The names of a certificate: DNS names and URIs (SPIFFE), then the common name. Names with unusual characters are left out. */
const namesOf = ({ subject, subjectaltname = "" }: PeerCertificate): ReadonlyArray<string> => [
  // node quotes a name with a comma or another character that could end it
  ...[...subjectaltname.matchAll(/(?:^|, )(?:DNS|URI):([^",\s]+)(?=,|$)/g)].map(([, name]) => name!),
  ...[subject?.CN].flat().filter((name) => name !== undefined)
]

/** Takes callers by the name of their client certificate. Its authority is checked during the handshake. */
export const make = (allowed: ReadonlyMap<string, Caller>): Authenticator => {
  const callers = new WeakMap<Socket, Caller>()
  return {
    known: ({ socket }) => socket === undefined ? undefined : callers.get(socket),
    verify: ({ socket }) =>
      Effect.suspend(() => {
        const certificate = socket instanceof TLSSocket && socket.authorized ? socket.getPeerCertificate() : undefined
        if (certificate?.subject === undefined) return noCredential("the connection has no client certificate")
        const names = namesOf(certificate)
        const caller = names.map((name) => allowed.get(name)).find((found) => found !== undefined)
        if (caller === undefined) {
          return badCredential(
            `the client certificate is for ${names.filter(isName).slice(0, 5).join(", ")}, which is not allowed here`
          )
        }
        callers.set(socket!, caller)
        return Effect.succeed(caller)
      })
  }
}

/** Parses `name=scope+scope,name=scope`. A name may be a URI. */
export const names = (scopes: ReadonlyArray<string>): Parse<ReadonlyMap<string, Caller>> => (text) => {
  const found = new Map<string, Caller>()
  for (const item of text.split(",").map((item) => item.trim()).filter((item) => item !== "")) {
    const at = item.lastIndexOf("=")
    const [name, asked] = [item.slice(0, at).trim(), item.slice(at + 1).split("+").map((scope) => scope.trim())]
    if (at < 0 || !isName(name)) return Either.left("is not a list of name=scope+scope")
    const unknown = asked.find((scope) => !scopes.includes(scope))
    if (unknown !== undefined) {
      return Either.left(`has the scope ${JSON.stringify(unknown)} for ${name}: the scopes are ${scopes.join(", ")}`)
    }
    if (found.has(name)) return Either.left(`has ${name} twice`)
    found.set(name, { name, scopes: new Set(asked) })
  }
  return found.size === 0 ? Either.left("has no item") : Either.right(found)
}
