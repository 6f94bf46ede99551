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

export interface HttpOptions {
  /** Port 0 takes a free one. */
  readonly address: Address
  /** Undefined: no TLS. */
  readonly tls?: TlsServerFiles | undefined
  /** Service name in the metrics. */
  readonly serviceName: string
  /** Answers `/api/…` and `/openapi.json`. Undefined: these do not exist. */
  readonly api?: HttpApp.Default<never, Scope.Scope> | undefined
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

    const app: HttpApp.Default = Effect.gen(function*() {
      const { method, url } = yield* HttpServerRequest.HttpServerRequest
      const path = url.split("?", 1)[0]!
      const route = Object.hasOwn(routes, path) ? routes[path] : undefined
      const api = /^\/(api\/|openapi\.json$)/.test(path) ? options.api : undefined
      const response = yield* api !== undefined
        ? Effect.interruptible(Effect.scoped(api))
        : route === undefined
        ? HttpServerResponse.text("not found\n", { status: 404 })
        : method === "GET" || method === "HEAD"
        // the platform runs requests uninterruptible, where no time limit works
        ? Effect.interruptible(route)
        : HttpServerResponse.text("method not allowed\n", { status: 405, headers: { allow: "GET, HEAD" } })
      yield* Metric.increment(
        count(api !== undefined ? "/api" : route === undefined ? "other" : path, response.status)
      )
      return HttpServerResponse.setHeader(response, "cache-control", "no-store")
    })

    const part = health.part("http-server")
    return yield* HttpServer.serve({
      ...options,
      listening: (port) =>
        Effect.zipRight(Effect.sync(part.working), options.listening?.(port) ?? Effect.void),
      app,
      variable: "HTTP_ADDR"
    })
  }).pipe(Effect.scoped)
