import type * as Grpc from "@grpc/grpc-js"
import type { Http2Server, ServerHttp2Session, ServerHttp2Stream } from "node:http2"
import { constants } from "node:http2"
import { Numbered } from "./Numbered.js"

/** What a session of node:http2 knows of itself, under a symbol that is called `state`; another Node may have none. */
interface State {
  streams?: Map<number, ServerHttp2Stream>
}

const stateOf = (session: ServerHttp2Session): State | undefined => {
  const symbol = Object.getOwnPropertySymbols(session).find(({ description }) => description === "state")
  return symbol === undefined ? undefined : (session as unknown as Record<symbol, State>)[symbol]
}

/** What grpc-js 1.14 listens with, and the sessions of each that are open. */
const listenersOf = (server: Grpc.Server) =>
  (server as unknown as {
    readonly http2Servers: ReadonlyMap<Http2Server, { readonly sessions: ReadonlySet<ServerHttp2Session> }>
  }).http2Servers

/** Ends all connections, with the calls on them. `forceShutdown` finds none where channelz is off. */
export const destroy = (server: Grpc.Server) => {
  for (const { sessions } of listenersOf(server).values()) {
    for (const session of sessions) session.destroy(undefined, constants.NGHTTP2_CANCEL)
  }
}

/**
 * Lets the streams of a server that has just been bound be collected while they are young: node:http2 keeps those of a
 * session in a `Map`, and with each goes all that its call has made.
 */
export const numberStreams = (server: Grpc.Server) => {
  for (const listening of listenersOf(server).keys()) {
    listening.prependListener("session", (session: ServerHttp2Session) => {
      const state = stateOf(session)
      if (state?.streams?.size === 0) state.streams = new Numbered()
    })
  }
}
