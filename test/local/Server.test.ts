import { FileSystem } from "@effect/platform"
import * as NodeContext from "@effect/platform-node/NodeContext"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Server from "../../src/local/Server.js"
import { freePort } from "../harness/FreePort.js"

describe("a local server", () => {
  it.scopedLive("that runs and does not answer in time is an error with the last lines of its log", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const folder = yield* fs.makeTempDirectoryScoped()
      const log = `${folder}/log`
      const place: Server.Place = {
        folder,
        log,
        cache: folder,
        port: yield* freePort,
        throwaway: true,
        shortLived: true,
        properties: {},
        libraries: undefined,
        progress: () => Effect.void,
        spawned: () => Effect.void
      }
      const error = yield* Effect.flip(Server.serve(
        place,
        { part: "redis", command: ["sh", "-c", "echo the disk is busy; exec sleep 60"], log },
        { url: "redis://localhost", stop: "SIGTERM", within: "1 second" }
      ))
      assert.match(error.message, /it runs but does not answer on port \d+; the last lines of .*\n {2}the disk is busy/)
    }).pipe(Effect.provide(NodeContext.layer)))
})
