import type { HttpApp } from "@effect/platform"
import { HttpServerRequest, HttpServerResponse } from "@effect/platform"
import type { Scope } from "effect"
import { Effect, Metric } from "effect"
import * as HttpServer from "../infra/http/HttpServer.js"
import { Readiness } from "../infra/runtime/Readiness.js"
import type { Address } from "../infra/runtime/Setting.js"
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
  /** Service name in the metrics. */
  readonly serviceName: string
  /** Answers `/api/…` and `/openapi.json`. Undefined: these do not exist. */
  readonly api?: HttpApp.Default<never, Scope.Scope> | undefined
  /** Called once with the port. */
  readonly listening?: (port: number) => Effect.Effect<unknown>
}

/**
 * Serves operations HTTP for ever: `/livez` answers 200 while the event loop runs; `/readyz` answers 200 or 503 with every
 * dependency; `/metrics` is for Prometheus.
 */
export const serve = (options: HttpOptions) =>
  Effect.gen(function*() {
    const readiness = yield* Readiness
    const backlog = yield* Backlog
    const measureProcess = yield* ProcessMetrics.watch
    const scrape = yield* Prometheus.make(options.serviceName)

    const routes: Record<string, Effect.Effect<HttpServerResponse.HttpServerResponse>> = {
      "/livez": Effect.succeed(HttpServerResponse.text("ok\n")),
      "/readyz": Effect.map(readiness.current, (current) =>
        HttpServerResponse.unsafeJson(current, { status: current.ready ? 200 : 503 })),
      "/metrics": Effect.all([backlog.measure, measureProcess]).pipe(
        Effect.zipRight(scrape),
        Effect.map((body) =>
          HttpServerResponse.text(body, { contentType: Prometheus.contentType })
        )
      )
    }

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
        Metric.tagged(
          Metric.tagged(requests, "path", api !== undefined ? "/api" : route === undefined ? "other" : path),
          "status",
          `${response.status}`
        )
      )
      return HttpServerResponse.setHeader(response, "cache-control", "no-store")
    })

    return yield* HttpServer.serve({ ...options, app, variable: "HTTP_ADDR" })
  }).pipe(Effect.scoped)
