import * as Otlp from "@effect/opentelemetry/Otlp"
import { FetchHttpClient } from "@effect/platform"
import { Layer, Option, Redacted } from "effect"

export interface TelemetryOptions {
  /** Base URL of an OTLP/HTTP collector, e.g. `http://localhost:4318`. */
  readonly endpoint: Option.Option<Redacted.Redacted>
  readonly headers: Option.Option<Redacted.Redacted<Readonly<Record<string, string>>>>
  readonly serviceName: string
  readonly attributes: Option.Option<Redacted.Redacted<Readonly<Record<string, string>>>>
}

const record = Option.match({ onNone: () => ({}), onSome: Redacted.value<Readonly<Record<string, string>>> })

/**
 * Sends traces, metrics and logs to the collector when one is set.
 *
 * A collector outage loses only telemetry: a failed exporter drops data for a minute.
 */
export const layer = ({ attributes, endpoint, headers, serviceName }: TelemetryOptions): Layer.Layer<never> =>
  Option.match(endpoint, {
    // without a collector spans would cost as much as with one
    onNone: () => Layer.setTracerEnabled(false),
    onSome: (url) =>
      Otlp.layerJson({
        baseUrl: Redacted.value(url),
        headers: record(headers),
        resource: { serviceName, attributes: record(attributes) },
        shutdownTimeout: "2 seconds"
      }).pipe(Layer.provide(FetchHttpClient.layer))
  })
