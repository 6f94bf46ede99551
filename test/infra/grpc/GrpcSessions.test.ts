import { assert, it } from "@effect/vitest"
import type * as Grpc from "@grpc/grpc-js"
import { EventEmitter } from "node:events"
import type { ServerHttp2Session } from "node:http2"
import * as GrpcSessions from "../../../src/infra/grpc/GrpcSessions.js"

it("a server without the private list of listeners is refused with a clear error", () => {
  assert.throws(() => GrpcSessions.numberStreams({} as Grpc.Server), /Server has no http2Servers/)
})

it("a session without the private state of node:http2 stays as it is", () => {
  const listener = new EventEmitter()
  const http2Servers = new Map([[listener, { sessions: new Set<ServerHttp2Session>() }]])
  GrpcSessions.numberStreams({ http2Servers } as unknown as Grpc.Server)
  const state = { streams: [] }
  listener.emit("session", {})
  listener.emit("session", { [Symbol("state")]: {} })
  listener.emit("session", { [Symbol("state")]: state })
  assert.deepStrictEqual(state, { streams: [] })
})
