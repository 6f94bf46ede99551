import * as NodeContext from "@effect/platform-node/NodeContext"
import { assert, layer } from "@effect/vitest"
import { Duration, Effect, Layer, Logger, Redacted } from "effect"
import { randomUUID } from "node:crypto"
import { inject } from "vitest"
import { audited } from "../../../src/cli/Audit.js"
import { serve } from "../../../src/cli/Serve.js"
import { sources, used } from "../../../src/cli/Sources.js"
import { readSettings } from "../../../src/Config.js"
import * as Kafka from "../../../src/infra/kafka/KafkaClient.js"
import * as KafkaProducer from "../../../src/infra/kafka/KafkaProducer.js"
import * as KafkaTail from "../../../src/infra/kafka/KafkaTail.js"
import * as Postgres from "../../../src/infra/postgres/Postgres.js"
import { DeadLetterBox } from "../../../src/repair/DeadLetterBox.js"
import { Operations } from "../../../src/repair/Operations.js"
import * as OrderStory from "../../../src/story/OrderStory.js"
import { until } from "../../harness/Eventually.js"
import { freePort } from "../../harness/FreePort.js"
import * as PgTest from "../../harness/PgTest.js"
import type { Grant } from "../../harness/SecuredKafka.js"
import { environment, layer as broker, optionsOf, SecuredKafka } from "../../harness/SecuredKafka.js"

type Variables = Record<string, string>

const make = Effect.fnUntraced(function*(delivery: "at-least-once" | "exactly-once") {
  const secured = yield* SecuredKafka
  const id = randomUUID()
  const names = {
    inventory: `inventory-${id}`,
    dlq: `inventory.dlq-${id}`,
    payment: `payment-${id}`,
    group: `group-${id}`
  }
  yield* Kafka.withAdmin(
    secured.admin,
    (admin) => Kafka.createTopics(admin, [names.inventory, names.dlq, names.payment].map((topic) => ({ topic })))
  )
  const account = Effect.fnUntraced(function*(role: string, grants: ReadonlyArray<Grant>) {
    const user = `${role}-${id}`
    yield* secured.setPassword(user, "SCRAM-SHA-512", "scram-password")
    yield* secured.grant(user, grants)
    const variables: Variables = {
      KAFKA_BROKERS: secured.login,
      KAFKA_TLS: "true",
      KAFKA_TLS_CA: secured.ca,
      KAFKA_SASL_MECHANISM: "SCRAM-SHA-512",
      KAFKA_SASL_USERNAME: user,
      KAFKA_SASL_PASSWORD: "scram-password"
    }
    return variables
  })
  const [grpc, http] = [yield* freePort, yield* freePort]
  const others: Variables = {
    DATABASE_URL: yield* PgTest.freshDatabase,
    REDIS_URL: inject("redisUrl"),
    KAFKA_CREATE_TOPICS: "false",
    KAFKA_GROUP_ID: names.group,
    INVENTORY_TOPIC: names.inventory,
    INVENTORY_DLQ_TOPIC: names.dlq,
    PAYMENT_TOPIC: names.payment,
    OUTBOX_DELIVERY: delivery,
    GRPC_ADDR: `127.0.0.1:${grpc}`,
    HTTP_ADDR: `127.0.0.1:${http}`
  }
  return { secured, names, account, others } as const
})

/** The rights of docs/security.md. */
const ofService = (names: Effect.Effect.Success<ReturnType<typeof make>>["names"]): ReadonlyArray<Grant> => [
  { type: "TOPIC", name: names.inventory, operations: ["READ"] },
  { type: "TOPIC", name: names.dlq, operations: ["WRITE"] },
  { type: "TOPIC", name: names.payment, operations: ["WRITE"] },
  { type: "GROUP", name: names.group, operations: ["READ"] }
]
const ofTransactions = (names: { readonly payment: string }): ReadonlyArray<Grant> => [
  { type: "TOPIC", name: names.payment, operations: ["READ"] },
  { type: "TRANSACTIONAL_ID", name: "payments-outbox-", prefixed: true, operations: ["WRITE"] },
  { type: "GROUP", name: "payments-outbox-", prefixed: true, operations: ["READ"] }
]
const ofReader = (names: Effect.Effect.Success<ReturnType<typeof make>>["names"]): ReadonlyArray<Grant> => [
  ...[names.inventory, names.dlq, names.payment].map((name): Grant => ({ type: "TOPIC", name, operations: ["READ"] })),
  { type: "GROUP", name: names.group, operations: ["DESCRIBE"] },
  { type: "GROUP", name: "payments-reader-", prefixed: true, operations: ["READ", "DELETE"] }
]

const send = (options: Kafka.KafkaOptions, topic: string, values: ReadonlyArray<string>) =>
  Effect.scoped(
    Effect.flatMap(KafkaProducer.make(options), (producer) =>
      producer.send(values.map((value) => ({ topic, key: null, value: Buffer.from(value) })), () => true))
  )

layer(Layer.mergeAll(broker, NodeContext.layer, Logger.remove(Logger.defaultLogger)), {
  excludeTestServices: true,
  timeout: "100 seconds"
})(
  "KafkaRights",
  (it) => {
    it.scoped.each(["at-least-once", "exactly-once"] as const)(
      "%s runs with the least rights",
      (delivery) =>
        Effect.gen(function*() {
          const { account, names, others, secured } = yield* make(delivery)
          const service = yield* account("service", [
            ...ofService(names),
            ...delivery === "exactly-once" ? ofTransactions(names) : []
          ])
          const [payments, letters] = yield* Effect.forEach(
            [names.payment, names.dlq],
            (topic) => KafkaTail.open({ ...secured.admin, topic, from: "beginning" })
          )
          yield* Effect.forkScoped(serve([]).pipe(environment({ ...others, ...service })))
          const event = { idempotent_key: randomUUID(), order_id: 7, status: "COMPLETED" }
          yield* send(secured.admin, names.inventory, [JSON.stringify(event), "no JSON"])
          assert.match(String((yield* payments!.take).value), /"order_id":7,"status":"CREATED"/)
          assert.strictEqual(String((yield* letters!.take).value), "no JSON")

          if (delivery === "exactly-once") return
          const reader = { ...others, ...yield* account("reader", ofReader(names)) }
          const report = yield* audited({ since: undefined, order: undefined, examples: 1, wait: Duration.seconds(20) })
            .pipe(
              environment(reader)
            )
          assert.isDefined(report)
          const config = yield* readSettings("databaseUrl", ...used).pipe(environment(reader))
          const { records } = yield* Effect.flatMap(OrderStory.make(sources(config)), ({ tell }) => tell(7n, undefined))
            .pipe(
              Effect.provide(
                Layer.merge(Operations.Default, DeadLetterBox.Default(sources(config))).pipe(
                  Layer.provideMerge(Postgres.layer({ url: Redacted.make(others["DATABASE_URL"]!), maxConnections: 2 }))
                )
              )
            )
          assert.isNotEmpty(records)
          const options = yield* optionsOf(Object.fromEntries(
            Object.entries(reader).filter(([name]) => name !== "KAFKA_GROUP_ID" && name.startsWith("KAFKA"))
          ))
          const watch = yield* KafkaTail.open({ ...options, topic: names.payment, from: "beginning" })
          assert.include(String((yield* watch.take).value), `"order_id":7`)
          // no topic that it may write
          const refusal = yield* Effect.flip(send(options, names.payment, ["forged"]))
          assert.match(refusal.message, /^kafka refuses us access: CLUSTER_AUTHORIZATION_FAILED$/)
        })
    )

    it.scoped.each(
      [
        ["a topic", { type: "TOPIC", key: "inventory" }, /grant it READ or WRITE on the topic/],
        ["the group", { type: "GROUP", key: "group" }, /GROUP_AUTHORIZATION_FAILED/],
        ["the transactional ids", { type: "TRANSACTIONAL_ID", key: undefined }, /TRANSACTIONAL_ID_AUTHORIZATION_FAILED/]
      ] as const
    )("without the right to %s the service waits for the permission", ([, lost, expected]) =>
      Effect.gen(function*() {
        const { account, names, others } = yield* make("exactly-once")
        const service = yield* account(
          "service",
          [...ofService(names), ...ofTransactions(names)].filter(({ name, type }) =>
            type !== lost.type || (lost.key !== undefined && name !== names[lost.key])
          )
        )
        yield* Effect.forkScoped(serve([]).pipe(environment({ ...others, ...service })))
        const waits = Effect.tryPromise(() => fetch(`http://${others["HTTP_ADDR"]}/readyz`).then((_) => _.text()))
        yield* until(
          Effect.orElseSucceed(waits, () => ""),
          (text) => text.includes("\"waiting_for\":\"permission\"") && expected.test(text)
        )
      }))
  }
)
