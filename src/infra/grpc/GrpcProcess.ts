import * as Grpc from "@grpc/grpc-js"
import * as StreamReset from "./patches/StreamReset.js"

/** Prepares this process for grpc-js, before the first server or client. Later calls change nothing. */
export const prepare = () => {
  StreamReset.install()
  // grpc-js logs to the console; every relevant failure is also returned as an error
  Grpc.setLogVerbosity(Grpc.logVerbosity.NONE)
}
