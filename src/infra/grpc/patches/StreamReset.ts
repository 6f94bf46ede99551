import * as Http2 from "node:http2"
import { Duplex } from "node:stream"

/** The native half of a node:http2 stream. */
interface Handle {
  /** Sends RST_STREAM with an HTTP/2 error code. */
  rstStream(code: number): void
  destroy(): void
}

const handleOf = (stream: Http2.Http2Stream): Handle | undefined => {
  const symbol = Object.getOwnPropertySymbols(stream).find(({ description }) => description === "kHandle")
  return symbol === undefined ? undefined : (stream as unknown as Record<symbol, Handle | undefined>)[symbol]
}

const cancel = Http2.constants.NGHTTP2_CANCEL

/** Delays the resets of all streams of this process until the session has read what it received. */
const defer = (handles: Handle) => {
  const { destroy, rstStream } = handles
  const waiting = new Map<Handle, number>()
  const flush = () => {
    for (const [handle, code] of waiting) {
      waiting.delete(handle)
      rstStream.call(handle, code)
    }
  }
  handles.rstStream = function(this: Handle, code: number) {
    if (waiting.size === 0) setImmediate(flush)
    waiting.set(this, code)
  }
  handles.destroy = function(this: Handle) {
    // a destroyed stream cannot wait; CANCEL is the only code that node:http2 itself delays while it reads
    if (waiting.delete(this)) rstStream.call(this, cancel)
    destroy.call(this)
  }
}

let installed = false

/**
 * Lets a session finish reading before it resets a stream. Without the patch, a reset during a read makes nghttp2 free the
 * stream twice: the process aborts, or fills its memory in an endless loop.
 *
 * Defect: nodejs/node#64113; fix: nodejs/node#64166 (July 2026). The patch takes effect in the next turn of the event loop,
 * before a session can read. A Node without the patched members stays as it is.
 */
export const install = () => {
  if (installed) return
  installed = true
  // only a stream gives access to the class of native streams
  const socket = new Duplex({ read() {}, write: (_chunk, _encoding, done) => done() })
  const session = Http2.connect("http://localhost", { createConnection: () => socket })
  session.once("connect", () => {
    const stream = session.request()
    const handle = handleOf(stream)
    if (typeof handle?.rstStream === "function" && typeof handle.destroy === "function") {
      defer(Object.getPrototypeOf(handle) as Handle)
    }
    session.destroy()
    socket.destroy()
  })
}
