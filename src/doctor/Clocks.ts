import { Either } from "effect"
import type { Result } from "./Finding.js"
import { at, when } from "./Finding.js"

const { judge, notChecked } = at("clocks")

/** Difference above which a clock is wrong, in milliseconds; `DatabaseClock` warns above it too. */
const tolerance = 5_000

const servers = {
  kafka: {
    name: "the brokers",
    consequence: "the brokers may delete records too early or too late, or refuse their time (INVALID_TIMESTAMP)"
  },
  redis: { name: "Redis", consequence: "its keys may live for another time than DEDUPE_TTL when the clock is set" },
  postgresql: { name: "the database", consequence: "times in logs and in the database disagree" }
} as const

/**
 * Judges the clock of a server against that of this host. `ahead` is how far the host's is ahead, in milliseconds; left is the
 * reason why the server does not tell its time.
 */
export const check = (server: keyof typeof servers, ahead: Either.Either<number, string>): Result =>
  Either.match(ahead, {
    onLeft: (why) => notChecked(`clocks.${server}`, why),
    onRight: (ahead) =>
      judge(
        `clocks.${server}`,
        `the clock of this host is ${(Math.abs(ahead) / 1_000).toFixed(2)} s ${ahead < 0 ? "behind" : "ahead of"} ` +
          `${servers[server].name}`,
        when(Math.abs(ahead) > tolerance, servers[server].consequence, "set both clocks (NTP)")
      )
  })
