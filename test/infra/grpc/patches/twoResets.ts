/**
 * A client whose peer resets one of its streams. In reaction it resets the other one, while its session reads. Prints
 * `resetting`, and then the code that the peer received. The argument `patched` installs the patch.
 */
import * as Http2 from "node:http2"
import type { AddressInfo } from "node:net"
import * as StreamReset from "../../../../src/infra/grpc/patches/StreamReset.js"

const [how, patched] = process.argv.slice(2)
if (patched === "patched") StreamReset.install()

const server = Http2.createServer()
const streams: Array<Http2.ServerHttp2Stream> = []
server.on("stream", (stream) => {
  stream.on("error", () => {})
  streams.push(stream)
  if (streams.length < 2) return
  const [first, second] = streams as [Http2.ServerHttp2Stream, Http2.ServerHttp2Stream]
  second.on("close", () => {
    process.stdout.write(`the peer saw code ${second.rstCode}\n`, () => process.exit(0))
  })
  first.close(Http2.constants.NGHTTP2_CANCEL)
})
server.listen(0, "127.0.0.1", () => {
  const session = Http2.connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
  const open = () => {
    const stream = session.request({ ":method": "POST" }, { endStream: false })
    stream.on("error", () => {})
    return stream.resume()
  }
  const [first, second] = [open(), open()]
  first.on("close", () => {
    process.stdout.write("resetting\n")
    if (how === "destroy") second.destroy()
    else second.close(Number(how))
  })
})
