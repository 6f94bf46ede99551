import { Clock, Duration, Effect } from "effect"
import type { CertificateFile } from "../infra/tls/CertificateExpiry.js"
import * as CertificateExpiry from "../infra/tls/CertificateExpiry.js"
import type { Result } from "./Finding.js"
import { at, when } from "./Finding.js"

const { judge, notChecked } = at("certificates")

/** Checks that the own certificates of the service do not end soon. */
export const check = (files: ReadonlyArray<CertificateFile>): Effect.Effect<ReadonlyArray<Result>> =>
  Effect.forEach(files, (file) =>
    Effect.matchEffect(CertificateExpiry.endOf(file), {
      onFailure: ({ message }) => Effect.succeed(notChecked("certificates.expiry", message)),
      onSuccess: (end) =>
        Effect.map(Clock.currentTimeMillis, (now) => {
          const day = new Date(end).toISOString().slice(0, 10)
          const days = Math.floor((end - now) / Duration.toMillis("1 day"))
          return judge(
            "certificates.expiry",
            `the certificate in ${file.variable} ${end < now ? `ended on ${day}` : `ends on ${day}, in ${days} days`}`,
            when(
              end - now < Duration.toMillis(CertificateExpiry.notice),
              "after its end the other side refuses each new connection",
              `renew it, and replace ${file.path}: the service reads the file again without a restart`
            )
          )
        })
    }))
