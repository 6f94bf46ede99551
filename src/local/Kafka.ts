import { FileSystem, Path } from "@effect/platform"
import { Effect } from "effect"
import { randomBytes } from "node:crypto"
import * as Fetch from "./Fetch.js"
import { java } from "./Java.js"
import * as KafkaIdentity from "./KafkaIdentity.js"
import * as Ports from "./Ports.js"
import * as Process from "./Process.js"
import type { Place, ServerTls } from "./Server.js"
import { serve } from "./Server.js"

/**
 * Files of the broker, relative to its working folder. An absolute path may contain a comma (a separator of `log.dirs` and of
 * the logging configuration), a colon (a separator of the class path), or bytes that a properties file cannot hold.
 */
const files = { data: "data", config: "server.properties", logging: "log4j2.properties", logs: "logs" }

/** Java encodes file names by the locale; in the locale C it cannot open a folder with a non-ASCII name. */
const locale = { LC_ALL: "C.UTF-8" }

/** Every listener speaks TLS. PEM needs no file in the format of Java. */
const encrypted = (place: Place, { authority, certificate, key }: ServerTls, controllerPort: number) => ({
  "listeners": `SSL://127.0.0.1:${place.port},CONTROLLER://127.0.0.1:${controllerPort}`,
  "listener.security.protocol.map": "SSL:SSL,CONTROLLER:SSL",
  "advertised.listeners": `SSL://127.0.0.1:${place.port}`,
  "inter.broker.listener.name": "SSL",
  "ssl.client.auth": "requested",
  "ssl.keystore.type": "PEM",
  "ssl.keystore.certificate.chain": certificate,
  "ssl.keystore.key": key,
  "ssl.truststore.type": "PEM",
  "ssl.truststore.certificates": authority
})

/** A value of a properties file: PEM has several lines. */
const line = (value: string | number | boolean) => String(value).replaceAll("\n", "\\n")

/** Properties of one node that is broker and controller; all others have Kafka's defaults. */
const properties = (place: Place, controllerPort: number) =>
  Object.entries({
    "process.roles": "broker,controller",
    "node.id": 1,
    "controller.quorum.voters": `1@127.0.0.1:${controllerPort}`,
    "controller.listener.names": "CONTROLLER",
    "listeners": `PLAINTEXT://127.0.0.1:${place.port},CONTROLLER://127.0.0.1:${controllerPort}`,
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "advertised.listeners": `PLAINTEXT://127.0.0.1:${place.port}`,
    "log.dirs": files.data,
    "num.partitions": 4,
    "auto.create.topics.enable": false,
    // the defaults want three brokers, and 50 partitions of each internal topic
    "offsets.topic.replication.factor": 1,
    "offsets.topic.num.partitions": 4,
    "transaction.state.log.replication.factor": 1,
    "transaction.state.log.min.isr": 1,
    "transaction.state.log.num.partitions": 4,
    "share.coordinator.state.topic.replication.factor": 1,
    "share.coordinator.state.topic.min.isr": 1,
    "share.coordinator.state.topic.num.partitions": 4,
    // the default waits 3 s for more members before a new group gets its first partitions
    "group.initial.rebalance.delay.ms": 0,
    // the default is 128 MB, more than the rest of the heap in use
    "log.cleaner.dedupe.buffer.size": 16 * 1024 * 1024,
    ...place.tls === undefined ? {} : encrypted(place, place.tls, controllerPort),
    ...place.properties
  }).map(([name, value]) => `${name}=${line(value)}\n`).join("")

const logging = `rootLogger.level=INFO
rootLogger.appenderRef.stdout.ref=STDOUT
appender.stdout.type=Console
appender.stdout.name=STDOUT
appender.stdout.layout.type=PatternLayout
appender.stdout.layout.pattern=%d{ISO8601} %-5p %m (%c)%n
`

interface Programs {
  readonly title: string
  readonly format: ReadonlyArray<string>
  readonly server: ReadonlyArray<string>
  readonly env: Record<string, string>
}

const locate = Effect.fnUntraced(function*(place: Place) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const [server, storage] = yield* Effect.all([
    Process.which("kafka-server-start.sh"),
    Process.which("kafka-storage.sh")
  ])
  const heap = ["-Xms256m", "-Xmx512m"]
  if (place.libraries === undefined && server !== "" && storage !== "") {
    const programs: Programs = {
      title: "Kafka from PATH",
      format: [storage],
      server: [server],
      env: { ...locale, KAFKA_HEAP_OPTS: heap.join(" "), LOG_DIR: files.logs }
    }
    return programs
  }
  const program = yield* java
  const libraries = place.libraries ?? (yield* Fetch.fetched(
    "kafka",
    "KAFKA_BROKERS",
    place.cache,
    place.progress("fetching", "Kafka 4.1 with Maven, only once, 54 MB")
  ))
  yield* fs.writeFileString(path.join(place.folder, files.logging), logging)
  // The serial collector starts half a second sooner on two cores. It pauses 10 to 30 ms when the young generation is full: at
  // 200 records a second every 5 s with its default size, every 10 s with this one.
  const run = [
    program,
    ...heap,
    "-Xmn192m",
    "-XX:+UseSerialGC",
    `-Dlog4j2.configurationFile=${files.logging}`,
    "-cp",
    `${path.relative(place.folder, libraries)}/*`
  ]
  // for a process that runs for seconds, optimizing code costs more than it saves
  const quick = ["-XX:TieredStopAtLevel=1"]
  const programs: Programs = {
    title: place.libraries === undefined ? "Kafka 4.1" : "Kafka",
    format: [...run, ...quick, "kafka.tools.StorageTool"],
    server: [...run, ...place.shortLived ? quick : [], "kafka.Kafka"],
    env: locale
  }
  return programs
})

/** A cluster id as Kafka writes it: 16 random bytes in URL-safe base64. A leading hyphen would look like an option. */
const clusterId = Effect.sync(() => randomBytes(16).toString("base64url").replace(/^-/, "A"))

/** A Kafka broker on 127.0.0.1, a cluster of one by default. It keeps its topics and its cluster id between starts. */
export const start = Effect.fnUntraced(function*(place: Place) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const programs = yield* locate(place)
  const program = { part: "kafka", log: place.log, env: programs.env, folder: place.folder } as const
  yield* place.progress("starting", `${programs.title} on port ${place.port}`)

  const config = path.join(place.folder, files.config)
  yield* fs.writeFileString(config, properties(place, yield* Effect.scoped(Ports.free)))
  if (!(yield* KafkaIdentity.isFormatted(place.folder))) {
    const id = place.properties["cluster.id"] ?? (yield* clusterId)
    yield* Process.run({ ...program, command: [...programs.format, "format", "-t", id, "-c", files.config] })
  }
  const server = yield* serve(place, {
    ...program,
    command: [...programs.server, files.config]
  }, {
    url: `127.0.0.1:${place.port}`,
    stop: place.throwaway ? "SIGKILL" : "SIGTERM",
    within: "2 minutes"
  })
  if (!place.throwaway) yield* KafkaIdentity.save(place.folder)
  return server
})
