import * as Metrics from "@effect/opentelemetry/Metrics"
import * as Resource from "@effect/opentelemetry/Resource"
import { PrometheusSerializer } from "@opentelemetry/exporter-prometheus"
import type { ScopeMetrics } from "@opentelemetry/sdk-metrics"
import { DataPointType } from "@opentelemetry/sdk-metrics"
import { Effect } from "effect"

/** Content type of the text format, version 0.0.4. */
export const contentType = "text/plain; version=0.0.4; charset=utf-8"

/** A gauge of a partition that this process does not know of stays in the registry: its series is absent. */
const absentIfNaN = "payments_consumer_lag_records"

/** Without the counters that Effect keeps of fibers, which are off and tell of the first few only, and without what is not known. */
const shown = (scope: ScopeMetrics): ScopeMetrics => ({
  ...scope,
  metrics: scope.metrics
    .filter(({ descriptor }) => !descriptor.name.startsWith("effect_fiber"))
    .map((metric) =>
      metric.descriptor.name === absentIfNaN && metric.dataPointType === DataPointType.GAUGE
        ? { ...metric, dataPoints: metric.dataPoints.filter(({ value }) => !Number.isNaN(value)) }
        : metric
    )
})

/** The effect that it answers reads the metrics of the process, in the text format of Prometheus. */
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
