import { Effect } from "effect"
import type { RequestListener } from "node:http"
import * as Http from "node:http"
import * as Https from "node:https"
import type { AddressInfo } from "node:net"
import type { Identity } from "../../src/local/Authority.js"

/** What the endpoint gives next, and what it was asked for. */
export interface EndpointState {
  /** Number of tokens so far. */
  issued: number
  /** Scope of the last request. */
  scope: string | null
  /** Seconds that the next tokens live. */
  life: number
  /** Seconds by which the next tokens are older than they say. */
  age: number
  status: number
}

/** A JSON web token without a signature, which the brokers of the tests accept. Times in seconds. */
const tokenFor = (subject: string, { age, issued, life }: EndpointState) => {
  const part = (content: object) => Buffer.from(JSON.stringify(content)).toString("base64url")
  const now = Math.floor(new Date().getTime() / 1_000) - age
  return `${part({ alg: "none" })}.${part({ sub: subject, iat: now, exp: now + life, jti: String(issued) })}.`
}

/** A token endpoint (RFC 6749, 4.4) on 127.0.0.1 for every client with this secret, for the life of the scope. */
export const make = (secret: string, identity?: Identity) =>
  Effect.acquireRelease(
    Effect.async<{ readonly url: string; readonly state: EndpointState; readonly close: () => void }>((resume) => {
      const state: EndpointState = { issued: 0, scope: null, life: 3_600, age: 0, status: 200 }
      const listener: RequestListener = (request, response) => {
        const [id, given] = Buffer.from(request.headers.authorization?.slice(6) ?? "", "base64").toString().split(":")
        const answer = (status: number, body: object) =>
          void response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body))
        let body = ""
        request.on("data", (data) => (body += String(data))).on("end", () => {
          const asked = new URLSearchParams(body)
          state.scope = asked.get("scope")
          if (state.status !== 200) return answer(state.status, { error: "temporarily_unavailable" })
          if (asked.get("grant_type") !== "client_credentials") return answer(400, { error: "unsupported_grant_type" })
          if (given !== secret) return answer(401, { error: "invalid_client", error_description: `not ${given}` })
          state.issued++
          answer(200, { access_token: tokenFor(id!, state), expires_in: state.life, token_type: "Bearer" })
        })
      }
      const server = identity === undefined
        ? Http.createServer(listener)
        : Https.createServer({ cert: identity.certificate, key: identity.key }, listener)
      server.listen(0, "127.0.0.1", () => {
        const { port } = server.address() as AddressInfo
        resume(Effect.succeed({
          url: `${identity === undefined ? "http" : "https"}://127.0.0.1:${port}/token`,
          state,
          close: () => {
            server.closeAllConnections()
            server.close()
          }
        }))
      })
    }),
    ({ close }) => Effect.sync(close)
  )
