import type * as Grpc from "@grpc/grpc-js"
import type { Http2Server, ServerHttp2Session, ServerHttp2Stream } from "node:http2"
import { constants } from "node:http2"
import type { Socket } from "node:net"
import { NumberMap } from "../runtime/tuning/NumberMap.js"

/** The private state of a node:http2 session, under a symbol with the description `state`. Other Node versions may not have it. */
interface State {
  streams?: Map<number, ServerHttp2Stream>
}

const stateOf = (session: ServerHttp2Session): State | undefined => {
  const symbol = Object.getOwnPropertySymbols(session).find(({ description }) => description === "state")
  return symbol === undefined ? undefined : (session as unknown as Record<symbol, State>)[symbol]
}

type Listeners = ReadonlyMap<Http2Server, { readonly sessions: ReadonlySet<ServerHttp2Session> }>

/** The listeners of a grpc-js 1.14 server with their open sessions. Throws when the server has no such private member. */
const listenersOf = (server: Grpc.Server): Listeners => {
  const { http2Servers } = server as unknown as { readonly http2Servers?: Listeners }
  if (http2Servers instanceof Map) return http2Servers
  throw new Error("@grpc/grpc-js is not version 1.14, which this service is written for: Server has no http2Servers")
}

/**
 * The connection of a call: a `TLSSocket` with TLS. Undefined after it has closed, and where grpc-js has other private members;
 * a caller has to be refused then whose name depends on it.
 */
export const socketOf = (call: Grpc.ServerUnaryCall<any, any>): Socket | undefined => {
  const { call: inner } = call as unknown as { readonly call?: { readonly stream?: ServerHttp2Stream } }
  const session = inner?.stream?.session
  // the socket of a destroyed session throws at every use
  return session === undefined || session.destroyed ? undefined : session.socket
}

/** Closes all connections and their calls. grpc-js's own `forceShutdown` finds no connection when channelz is off. */
export const destroy = (server: Grpc.Server) => {
  for (const { sessions } of listenersOf(server).values()) {
    for (const session of sessions) session.destroy(undefined, constants.NGHTTP2_CANCEL)
  }
}

/**
 * Replaces the `Map` of streams of each new session by `NumberMap`, so that finished streams and the objects of their
 * calls stay collectable while young. Call it after the server is bound.
 */
export const numberStreams = (server: Grpc.Server) => {
  for (const listening of listenersOf(server).keys()) {
    listening.prependListener("session", (session: ServerHttp2Session) => {
      const state = stateOf(session)
      if (state?.streams?.size === 0) state.streams = new NumberMap()
    })
  }
}
