import type { HttpApp } from "@effect/platform"
import { HttpServerRequest, HttpServerResponse } from "@effect/platform"
import type { Scope } from "effect"
import { Effect, Metric } from "effect"
import * as HttpServer from "../infra/http/HttpServer.js"
import { Health } from "../infra/runtime/Health.js"
import type { Address } from "../infra/runtime/Setting.js"
import type { TlsServerFiles } from "../infra/tls/TlsServer.js"
import { Backlog } from "../outbox/Backlog.js"
import * as ProcessMetrics from "./ProcessMetrics.js"
import * as Prometheus from "./Prometheus.js"

const requests = Metric.counter("payments_http_requests_total", {
  description: "Operations requests by path (or `other`) and status",
  incremental: true
})

/** The operations API and the pages that show it. */
export interface ConsoleApp {
  /** Answers `/api/…` and `/openapi.json`. */
  readonly app: HttpApp.Default<never, Scope.Scope>
  /** The answer for the path of a page or of a file; undefined where there is none. */
  readonly pages: (path: string) => HttpApp.Default | undefined
  /** Runs when the server begins to stop. */
  readonly stop: Effect.Effect<void>
}

/** What `/` says without a token. */
const off = "the console is off: set ADMIN_TOKEN or ADMIN_TOKENS_FILE and restart, as docs/operations.md says\n"

export interface HttpOptions {
  /** Port 0 takes a free one. */
  readonly address: Address
  /** Undefined: no TLS. */
  readonly tls?: TlsServerFiles | undefined
  /** Service name in the metrics. */
  readonly serviceName: string
  /** The operations API and the console. Undefined: these do not exist. */
  readonly console?: ConsoleApp | undefined
  /** Called once with the port. */
  readonly listening?: (port: number) => Effect.Effect<unknown>
}

/**
 * Serves operations HTTP for ever.
 *
 * - `/livez`: 200 while the event loop runs.
 * - `/startedz`: 200 when every required part has worked once, and then for ever; otherwise 503.
 * - `/readyz`: 200 when every required part works, otherwise 503; with the state of every part. `/readyz/<role>`: the same for
 *   the parts that a role of this process needs.
 * - `/metrics`: for Prometheus.
 * - `/`, `/assets/…`, `/api/…`, `/openapi.json`: the console and the operations API.
 */
export const serve = (options: HttpOptions) =>
  Effect.gen(function*() {
    const health = yield* Health
    const backlog = yield* Backlog
    const measureProcess = yield* ProcessMetrics.watch
    const scrape = yield* Prometheus.make(options.serviceName)

    const readyz = (role?: string) =>
      Effect.map(health.current(role), (current) =>
        HttpServerResponse.unsafeJson(current, { status: current.ready ? 200 : 503 }))
    const routes: Record<string, Effect.Effect<HttpServerResponse.HttpServerResponse>> = {
      "/livez": Effect.succeed(HttpServerResponse.text("ok\n")),
      "/startedz": Effect.map(health.current(), ({ started }) =>
        HttpServerResponse.text(started ? "started\n" : "starting\n", { status: started ? 200 : 503 })),
      "/readyz": readyz(),
      ...Object.fromEntries(health.roles.map((role) => [`/readyz/${role}`, readyz(role)])),
      "/metrics": Effect.all([backlog.measure, measureProcess, health.measure]).pipe(
        Effect.zipRight(scrape),
        Effect.map((body) =>
          HttpServerResponse.text(body, { contentType: Prometheus.contentType })
        )
      )
    }
    const count = (path: string, status: number) =>
      requests.pipe(Metric.tagged("path", path), Metric.tagged("status", String(status)))
    for (const path of Object.keys(routes)) {
      for (const status of /^\/(readyz|startedz)/.test(path) ? [200, 503] : [200]) {
        yield* Metric.value(count(path, status))
      }
    }
    yield* Metric.value(count("other", 404))

    /** The answer to a request, and the label of its path. */
    const find = (path: string): readonly [label: string, HttpApp.Default] | undefined => {
      if (Object.hasOwn(routes, path)) return [path, routes[path]!]
      if (path === "/" && options.console === undefined) {
        return [path, HttpServerResponse.text(off, { status: 404 })]
      }
      const page = options.console?.pages(path)
      return page && [path === "/" ? path : "/assets", page]
    }

    const app: HttpApp.Default = Effect.gen(function*() {
      const { method, url } = yield* HttpServerRequest.HttpServerRequest
      const path = url.split("?", 1)[0]!
      const api = /^\/(api\/|openapi\.json$)/.test(path) ? options.console?.app : undefined
      const [label, route] = api === undefined ? find(path) ?? [] : ["/api"]
      const response = yield* api !== undefined
        ? Effect.interruptible(Effect.scoped(api))
        : route === undefined
        ? HttpServerResponse.text("not found\n", { status: 404 })
        : method === "GET" || method === "HEAD"
        // the platform runs requests uninterruptible, where no time limit works
        ? Effect.interruptible(route)
        : HttpServerResponse.text("method not allowed\n", { status: 405, headers: { allow: "GET, HEAD" } })
      yield* Metric.increment(count(label ?? "other", response.status))
      return "cache-control" in response.headers
        ? response
        : HttpServerResponse.setHeaders(response, { "cache-control": "no-store", "x-content-type-options": "nosniff" })
    })

    const part = health.part("http-server")
    return yield* HttpServer.serve({
      ...options,
      listening: (port) =>
        Effect.zipRight(Effect.sync(part.working), options.listening?.(port) ?? Effect.void),
      app,
      stopping: options.console?.stop,
      variable: "HTTP_ADDR"
    })
  }).pipe(Effect.scoped)
