import { Deferred, Effect } from "effect"
import * as Http from "node:http"
import type { AddressInfo } from "node:net"

/** A request that the collector received. */
export interface Export {
  readonly path: string
  readonly authorization: string | undefined
  readonly body: string
}

/** A span as it came over the wire, with its attributes as an object. */
export interface Span {
  readonly name: string
  readonly kind: "internal" | "server" | "client" | "producer" | "consumer"
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId: string | undefined
  /** Nanoseconds of the epoch. */
  readonly start: bigint
  readonly end: bigint
  readonly attributes: Readonly<Record<string, string | number | boolean>>
  readonly links: ReadonlyArray<{ readonly traceId: string; readonly spanId: string }>
  readonly failed: boolean
}

const kinds = ["unspecified", "internal", "server", "client", "producer", "consumer"]

const spanOf = (span: any): Span => ({
  name: span.name,
  kind: kinds[span.kind] as Span["kind"],
  traceId: span.traceId,
  spanId: span.spanId,
  parentSpanId: span.parentSpanId,
  start: BigInt(span.startTimeUnixNano),
  end: BigInt(span.endTimeUnixNano),
  attributes: Object.fromEntries(span.attributes.map(({ key, value }: any) => [key, Object.values(value)[0]])),
  links: span.links.map(({ spanId, traceId }: any) => ({ spanId, traceId })),
  failed: span.status.code === 2
})

/** A collector that receives OTLP over HTTP as JSON and keeps it, for the life of the scope. */
export const make = Effect.gen(function*() {
  const exports: Array<Export> = []
  const listening = yield* Deferred.make<number>()
  yield* Effect.acquireRelease(
    Effect.sync(() => {
      const server = Http.createServer((request, response) => {
        const chunks: Array<Buffer> = []
        request.on("data", (chunk: Buffer) => chunks.push(chunk)).on("end", () => {
          const body = Buffer.concat(chunks).toString()
          exports.push({ path: request.url!, authorization: request.headers.authorization, body })
          response.end("{}")
        })
      })
      server.listen(
        0,
        "127.0.0.1",
        () => Deferred.unsafeDone(listening, Effect.succeed((server.address() as AddressInfo).port))
      )
      return server
    }),
    (server) => Effect.sync(() => server.close())
  )
  const spans = (): ReadonlyArray<Span> =>
    exports.filter(({ path }) => path === "/v1/traces").flatMap(({ body }) =>
      JSON.parse(body).resourceSpans.flatMap(({ scopeSpans }: any) =>
        scopeSpans.flatMap(({ spans }: any) => spans.map(spanOf))
      )
    )
  return { exports, spans, url: `http://127.0.0.1:${yield* Deferred.await(listening)}` } as const
})

/** The spans of a trace as lines `name <kind>`, each below its parent and indented by one more step. */
export const tree = (spans: ReadonlyArray<Span>): ReadonlyArray<string> => {
  const ids = new Set(spans.map(({ spanId }) => spanId))
  const below = (parent: string | undefined, depth: number): ReadonlyArray<string> =>
    spans
      .filter(({ parentSpanId }) =>
        parent === undefined ? parentSpanId === undefined || !ids.has(parentSpanId) : parentSpanId === parent
      )
      .sort((a, b) => a.start < b.start ? -1 : a.start > b.start ? 1 : a.name < b.name ? -1 : 1)
      .flatMap(({ kind, name, spanId }) => [`${"  ".repeat(depth)}${name} <${kind}>`, ...below(spanId, depth + 1)])
  return below(undefined, 0)
}
