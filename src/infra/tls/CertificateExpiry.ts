import { Duration, Effect, Metric } from "effect"
import { X509Certificate } from "node:crypto"
import { readFileSync } from "node:fs"
import { FileUnusable } from "../runtime/FileUnusable.js"

/** A PEM file with an own certificate and its chain, and the variable that names it. */
export interface CertificateFile {
  readonly variable: string
  readonly path: string
}

/** A certificate that ends within this time needs its renewal. Issuers of short-lived certificates renew at two thirds of 90 days. */
export const notice = Duration.days(14)

const expiry = Metric.gauge("payments_tls_certificate_expiry_timestamp_seconds", {
  description: "Unix time at which the first certificate of a file ends, by the variable that names the file"
})

/** Milliseconds of the epoch at which the first certificate of the file ends: that of the service, or one of its chain. */
export const endOf = ({ path, variable }: CertificateFile): Effect.Effect<number, FileUnusable> =>
  Effect.try({
    try: () => {
      const certificates = readFileSync(path, "utf8").match(
        /-----BEGIN CERTIFICATE-----[^]+?-----END CERTIFICATE-----/g
      )
      if (certificates === null) throw new Error("it has no certificate in PEM")
      return Math.min(...certificates.map((pem) => Date.parse(new X509Certificate(pem).validTo)))
    },
    catch: (cause) =>
      new FileUnusable({ variable, problem: `names ${path}, which cannot be read: ${(cause as Error).message}` })
  })

/** Keeps the metric of these files current, for ever. The end in a file that cannot be read is unknown. */
export const watch = (files: ReadonlyArray<CertificateFile>): Effect.Effect<never> =>
  Effect.forEach(files, (file) =>
    endOf(file).pipe(
      Effect.orElseSucceed(() => NaN),
      Effect.flatMap((end) => Metric.set(Metric.tagged(expiry, "variable", file.variable), end / 1_000))
    ), { discard: true }).pipe(Effect.zipRight(Effect.sleep("1 minute")), Effect.forever)
