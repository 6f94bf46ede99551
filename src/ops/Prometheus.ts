import * as Metrics from "@effect/opentelemetry/Metrics"
import * as Resource from "@effect/opentelemetry/Resource"
import { PrometheusSerializer } from "@opentelemetry/exporter-prometheus"
import type { ScopeMetrics } from "@opentelemetry/sdk-metrics"
import { DataPointType } from "@opentelemetry/sdk-metrics"
import { Effect } from "effect"

/** Content type of the text format, version 0.0.4. */
export const contentType = "text/plain; version=0.0.4; charset=utf-8"

/** Leaves out unknown values, and Effect's fiber counters: they are disabled and would show only the first fibers. */
const shown = (scope: ScopeMetrics): ScopeMetrics => ({
  ...scope,
  metrics: scope.metrics
    .filter(({ descriptor }) => !descriptor.name.startsWith("effect_fiber"))
    .map((metric) =>
      metric.dataPointType === DataPointType.GAUGE
        // a gauge that is not known now is NaN: no value in the registry can be removed
        ? { ...metric, dataPoints: metric.dataPoints.filter(({ value }) => !Number.isNaN(value)) }
        : metric
    )
})

/** Returns an effect that renders the metrics of the process in the Prometheus text format. */
export const make = (serviceName: string) =>
  Metrics.makeProducer.pipe(
    Effect.map((producer) => {
      // no scope labels: every metric has the same scope
      const serializer = new PrometheusSerializer(undefined, false, undefined, false, true)
      return Effect.map(
        Effect.promise(() => producer.collect()),
        ({ resourceMetrics: { resource, scopeMetrics } }) =>
          serializer.serialize({ resource, scopeMetrics: scopeMetrics.map(shown) })
      )
    }),
    Effect.provide(Resource.layer({ serviceName }))
  )
