import { Args, Command, Options } from "@effect/cli"
import { Effect, Layer, Option, Schema } from "effect"
import * as Doctor from "../doctor/Doctor.js"
import * as Report from "../doctor/Report.js"
import { text } from "../infra/runtime/Setting.js"
import type { Role } from "../ops/Parts.js"
import { workers } from "../ops/Parts.js"
import { Sequences } from "../payments/Sequences.js"
import * as Database from "./Database.js"
import { option } from "./Flags.js"
import { json, print, waitingFor, withSettings } from "./Output.js"
import { rolesOf } from "./Serve.js"
import type { Config } from "./Services.js"
import * as Services from "./Services.js"

/** The doctor has findings. */
export class DoctorFindings extends Schema.TaggedError<DoctorFindings>()("DoctorFindings", {
  verdict: Schema.String
}) {
  override get message() {
    return `the doctor has ${this.verdict}`
  }
}

const doctor = Effect.fn("cli.doctor")(function*(
  config: Config,
  running: ReadonlyArray<Role>,
  role: string | undefined,
  asJson: boolean
) {
  const options = Services.doctorOptions(config, running)
  const diagnosis = yield* Doctor.examine({ ...options, role }).pipe(
    waitingFor("asking the servers")
  )
  yield* asJson
    ? Effect.forEach(Report.documents(diagnosis), (document) => print(true, document, ""), { discard: true })
    : print(false, {}, Report.text(diagnosis))
  const [failure] = diagnosis.failures
  if (failure !== undefined) return yield* failure
  const verdict = Report.verdict(diagnosis)
  if (verdict !== undefined) return yield* new DoctorFindings({ verdict })
})

/** Checks the servers and the settings against each other. Exit code 0: no finding. 1: findings. 5: a server did not answer. */
export const command = Command.make("doctor", {
  parts: Args.choice(workers.map((role) => [role, role] as const), { name: "part" }).pipe(
    Args.withDescription("Parts to check for: consumer, relay, grpc; all by default"),
    Args.repeated
  ),
  role: option("role", text, "role").pipe(
    Options.withDescription("Check the rights of this role of PostgreSQL; by default that of DATABASE_URL"),
    Options.optional
  ),
  json
}, ({ json, parts, role }) => {
  const running = rolesOf(parts)
  return withSettings(Services.settingsOf(running), (config) =>
    Effect.provide(
      doctor(config as Config, running, Option.getOrUndefined(role), json),
      Sequences.Default.pipe(
        Layer.provideMerge(Database.layer(config as Config, 2))
      )
    ))
}).pipe(
  Command.withDescription("Check servers and settings against each other: values, consequences, remedies")
)
