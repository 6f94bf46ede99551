import * as Metrics from "@effect/opentelemetry/Metrics"
import * as Resource from "@effect/opentelemetry/Resource"
import { PrometheusSerializer } from "@opentelemetry/exporter-prometheus"
import { Effect } from "effect"

/** Content type of the text format, version 0.0.4. */
export const contentType = "text/plain; version=0.0.4; charset=utf-8"

/** The effect that it answers reads all metrics of the process, in the text format of Prometheus. */
export const make = (serviceName: string) =>
  Metrics.makeProducer.pipe(
    Effect.map((producer) => {
      // no scope labels: every metric has the same scope
      const serializer = new PrometheusSerializer(undefined, false, undefined, false, true)
      return Effect.map(
        Effect.promise(() => producer.collect()),
        ({ resourceMetrics }) => serializer.serialize(resourceMetrics)
      )
    }),
    Effect.provide(Resource.layer({ serviceName }))
  )
