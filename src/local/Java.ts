import { Command } from "@effect/platform"
import { Effect, Stream, String } from "effect"
import { waysOn } from "./Fetch.js"
import { LocalStackError } from "./LocalStackError.js"

/** Oldest Java version that runs Kafka 4 brokers. */
const oldest = 17

const lack = (problem: string) =>
  new LocalStackError({ part: "kafka", problem, wayOut: `${waysOn("KAFKA_BROKERS")} Or install Java ${oldest}.` })

/** The command that starts Java: of JAVA_HOME, or else of PATH. Fails when Java is missing or too old. */
export const java = Effect.gen(function*() {
  // Java prints its version to standard error
  const process = yield* Command.start(
    Command.make(
      "sh",
      "-c",
      `java=java; [ -x "$JAVA_HOME/bin/java" ] && java=$JAVA_HOME/bin/java; echo "$java"; exec "$java" -version 2>&1`
    )
  )
  const [program = "", ...lines] = (yield* process.stdout.pipe(
    Stream.decodeText(),
    Stream.runFold("", String.concat)
  )).split("\n")
  if ((yield* process.exitCode) !== 0) {
    return yield* lack("there is no Kafka broker on PATH, and no Java to run a downloaded one")
  }
  // "17.0.15", and before 9 "1.8.0_292"
  const version = /version "([^"]+)"/.exec(lines.join("\n"))?.[1] ?? ""
  if (!(Number.parseInt(version) >= oldest)) {
    return yield* lack(`Kafka needs Java ${oldest} or newer, and ${program} is version ${version || "unknown"}`)
  }
  return program
}).pipe(
  Effect.scoped,
  Effect.catchTag("SystemError", (error) => Effect.fail(lack(error.message)))
)
