import { NodeContext } from "@effect/platform-node"
import { Deferred, Duration, Effect, Fiber, Layer, Logger, Redacted } from "effect"
import * as Net from "node:http"
import * as AdminApi from "../../src/admin/AdminApi.js"
import * as Pages from "../../src/console/Pages.js"
import * as Secret from "../../src/infra/runtime/Secret.js"
import * as Http from "../../src/ops/Http.js"
import * as Parts from "../../src/ops/Parts.js"
import { Backlog } from "../../src/outbox/Backlog.js"
import { Outbox } from "../../src/outbox/Outbox.js"
import { OutboxWake } from "../../src/outbox/OutboxWake.js"
import { PaymentRepo } from "../../src/payments/PaymentRepo.js"
import { Payments } from "../../src/payments/Payments.js"
import { Sequences } from "../../src/payments/Sequences.js"
import * as KafkaTest from "../harness/KafkaTest.js"

/** What a process with the console has beside the database. */
export const services = Layer.mergeAll(
  NodeContext.layer,
  Backlog.Default,
  Parts.layer({ running: [], rights: {} }),
  Payments.Default.pipe(
    Layer.provide(PaymentRepo.Default),
    Layer.provide(Sequences.Default),
    Layer.provide(Outbox.Default({ topic: "payment", lease: Duration.seconds(30), maxAttempts: 10 })),
    Layer.provide(OutboxWake.layerNotify)
  ),
  Logger.remove(Logger.defaultLogger)
)

export const token = "a-token-of-the-test-7f3e"

const owners = {
  "token-of-ann": ["operations:read", "operations:change", "payments:settle"],
  "token-of-the-dashboard": ["operations:read"],
  "token-of-the-writer": ["inventory:write"]
} as const

export interface StartOptions {
  /** False: the server has no console. */
  readonly admin?: boolean
  readonly local?: boolean
  readonly topic?: string
  readonly dlqTopic?: string
  readonly folder?: string
  readonly heartbeat?: string
  /** Owners whose tokens are revoked. */
  readonly revoked?: Set<string>
  /** What the doctor runs. Default: one finding. */
  readonly examine?: AdminApi.AdminOptions["examine"]
}

export interface Asked {
  readonly method?: string
  readonly body?: unknown
  /** Null: no credential. Default: the token without a name. */
  readonly bearer?: string | null
  readonly headers?: Readonly<Record<string, string>>
}

/** Starts operations HTTP for the life of the scope. */
export const start = Effect.fnUntraced(function*(options: StartOptions = {}) {
  const { admin = true, dlqTopic = "not-there", folder = "/not-there", local = false, topic = "not-there" } = options
  const bound = yield* Deferred.make<number>()
  const api = admin
    ? yield* AdminApi.make({
      kafka: KafkaTest.kafka(),
      groupId: "test",
      inventoryTopic: topic,
      dlqTopic,
      paymentTopic: topic,
      acceptStatuses: ["COMPLETED"],
      retention: Duration.days(7),
      access: local ? { unnamed: undefined, named: undefined, local, tls: false } : {
        unnamed: Secret.constant(Redacted.make(token)),
        named: (given) => {
          const name = given.replace(/^token-of-(the-)?/, "")
          const scopes = (owners as Record<string, ReadonlyArray<string>>)[given]
          return scopes === undefined || options.revoked?.has(name) ? undefined : { name, scopes: new Set(scopes) }
        },
        local,
        tls: false
      },
      examine: options.examine ?? Effect.succeed({
        results: [{
          place: "kafka",
          check: "kafka.test",
          state: "finding",
          found: "a",
          fault: { consequence: "b", remedy: "c" }
        }],
        failures: []
      }),
      version: "1.2.3",
      ...(options.heartbeat === undefined ? {} : { heartbeat: options.heartbeat as Duration.DurationInput })
    })
    : undefined
  const server = yield* Http.serve({
    address: { host: "127.0.0.1", port: 0 },
    serviceName: "payments",
    console: api && { ...api, pages: yield* Pages.make(folder) },
    listening: (port) => Deferred.succeed(bound, port)
  }).pipe(Effect.forkScoped)
  const port = yield* Effect.raceFirst(Deferred.await(bound), Fiber.join(server))

  /** Asks with any header, `host` too, which `fetch` does not allow. */
  const ask = (path: string, { bearer = token, body, headers = {}, method }: Asked = {}) =>
    Effect.async<
      {
        readonly status: number
        readonly headers: Net.IncomingHttpHeaders
        readonly text: string
        readonly bytes: Buffer
        readonly json: any
      }
    >((resume) => {
      const text = body === undefined ? undefined : typeof body === "string" ? body : JSON.stringify(body)
      const request = Net.request({
        host: "127.0.0.1",
        port,
        path,
        method: method ?? (text === undefined ? "GET" : "POST"),
        agent: false,
        headers: {
          ...(bearer === null ? {} : { authorization: `Bearer ${bearer}` }),
          ...(text === undefined
            ? {}
            : { "content-type": "application/json", "content-length": Buffer.byteLength(text) }),
          ...headers
        }
      }, (response) => {
        const parts: Array<Buffer> = []
        response.on("data", (part: Buffer) => parts.push(part))
        response.on("end", () => {
          const bytes = Buffer.concat(parts)
          const text = bytes.toString()
          const json = /^[[{]/.test(text) ? JSON.parse(text) : undefined
          resume(Effect.succeed({ status: response.statusCode!, headers: response.headers, text, bytes, json }))
        })
      })
      request.on("error", (error) => resume(Effect.die(error)))
      request.end(text)
    })

  /** Opens a stream for the life of the scope. `events` has what came so far; `ended` is true after its end. */
  const follow = (path: string, bearer: string | null = token, headers: Readonly<Record<string, string>> = {}) =>
    Effect.acquireRelease(
      Effect.async<Stream>((resume) => {
        const request = Net.request({
          host: "127.0.0.1",
          port,
          path,
          agent: false,
          headers: { ...(bearer === null ? {} : { authorization: `Bearer ${bearer}` }), ...headers }
        }, (response) => {
          const stream: Stream = {
            status: response.statusCode!,
            text: "",
            ended: false,
            close: () => request.destroy(),
            pause: () => void response.pause(),
            events: () =>
              stream.text.split("\n\n").slice(0, -1).flatMap((part) => {
                const [, name, data] = /^event: (.*)\ndata: (.*)$/s.exec(part) ?? []
                return name === undefined ? [] : [{ name, data: JSON.parse(data!) }]
              })
          }
          response.on("data", (part: Buffer) => (stream.text += part.toString()))
          response.on("close", () => (stream.ended = true))
          response.on("error", () => {})
          resume(Effect.succeed(stream))
        })
        request.on("error", () => {})
        request.end()
      }),
      (stream) => Effect.sync(stream.close)
    )
  return { port, ask, follow, server } as const
})

export interface Stream {
  readonly status: number
  text: string
  ended: boolean
  readonly close: () => void
  readonly pause: () => void
  readonly events: () => ReadonlyArray<{ readonly name: string; readonly data: any }>
}
