import type { Description } from "../infra/redis/RedisDescription.js"
import type { Result } from "./Finding.js"
import { at, bytes, when } from "./Finding.js"

const { judge } = at("redis")

/** Share of the memory above which a server is nearly full. */
const nearlyFull = 0.9

const memory = ({ evictedKeys, maxBytes, policy, systemBytes, usedBytes }: Description): Result => {
  const limit = maxBytes > 0 ? maxBytes : systemBytes
  const of = maxBytes > 0 ? "maxmemory" : "the memory of its host; maxmemory is 0"
  const share = limit > 0 ? usedBytes / limit : 0
  return judge(
    "redis.memory",
    `Redis uses ${bytes(usedBytes)} of ${bytes(limit)} (${of}); ${evictedKeys} keys evicted`,
    when(
      share > nearlyFull && policy === "noeviction",
      `at ${
        Math.round(share * 100)
      } % Redis is about to refuse writes (OOM): each repeated record then costs the database a look`,
      "raise maxmemory, shorten DEDUPE_TTL, or set maxmemory-policy to volatile-ttl"
    )
  )
}

const policy = ({ maxBytes, policy }: Description): Result =>
  judge(
    "redis.policy",
    `maxmemory-policy is ${policy}, maxmemory ${maxBytes === 0 ? "0 (no limit)" : bytes(maxBytes)}`,
    when(
      maxBytes > 0 && policy === "noeviction",
      "a full Redis refuses writes (OOM) and counts as away, instead of forgetting its oldest keys",
      "set maxmemory-policy to volatile-ttl: every key of this service has a time to live"
    )
  )

/** Checks that the server takes reads and writes, and keeps keys as long as it should. */
export const check = (description: Description): ReadonlyArray<Result> => [
  judge(
    "redis.role",
    `Redis ${description.version} is a ${description.role}${description.cluster ? " of a cluster" : ""}`,
    when(
      description.cluster,
      "the service needs keys of several slots at once, and counts Redis as away",
      "point REDIS_URL to a Redis without cluster mode"
    ) ?? when(
      description.role !== "master",
      "it refuses writes (READONLY) and counts as away: each repeated record costs the database a look",
      "point REDIS_URL to the primary"
    )
  ),
  memory(description),
  policy(description)
]
