import * as Grpc from "@grpc/grpc-js"
import * as ProtoLoader from "@grpc/proto-loader"
import { Effect } from "effect"
import { randomUUID } from "node:crypto"
import * as Pg from "pg"
import * as Garbage from "../../src/infra/runtime/tuning/Garbage.js"

const env = process.env as Record<string, string>
const pool = new Pg.Pool({
  connectionString: env["DATABASE_URL"]!,
  max: 2,
  options: "-c enable_seqscan=off -c plan_cache_mode=force_generic_plan"
})

interface Call {
  readonly order: string
  readonly status: string
  readonly answer: (error: Partial<Grpc.ServiceError> | null) => void
}

const waiting: Array<Call> = []
let underWay = 0

/** Commits waiting calls in one statement, two at a time. It handles only the bench's calls, all for CREATED payments. */
const commit = () => {
  if (underWay === 2 || waiting.length === 0) return
  const group = waiting.splice(0)
  underWay++
  const tell = (error: Partial<Grpc.ServiceError> | null) => {
    for (const { answer } of group) answer(error)
    underWay--
    commit()
  }
  pool.query({
    name: "settle",
    text: `
      WITH asked AS MATERIALIZED (
        SELECT * FROM unnest($1::bigint[], $2::payment_status[], string_to_array($3, E'\\n')) AS t (order_id, outcome, payload)
      ), settled AS (
        UPDATE payment SET status = outcome, updated_at = clock_timestamp() FROM (
          SELECT payment.id, outcome, payload FROM asked JOIN payment USING (order_id) ORDER BY order_id FOR UPDATE OF payment
        ) AS target
        WHERE payment.id = target.id AND payment.status = 'CREATED'
        RETURNING order_id, payload
      )
      INSERT INTO event (topic, order_id, payload) SELECT 'payment', order_id, payload FROM settled
    `,
    values: [
      `{${group.map(({ order }) => order).join(",")}}`,
      `{${group.map(({ status }) => status).join(",")}}`,
      group.map(({ order, status }) => `{"idempotent_key":"${randomUUID()}","order_id":${order},"status":"${status}"}`)
        .join("\n")
    ]
  }).then(() => tell(null), () => tell({ code: Grpc.status.UNAVAILABLE }))
}

const settle = (call: Call) => {
  if (waiting.push(call) === 1) setImmediate(commit)
}

type Request = Grpc.ServerUnaryCall<{ readonly order_id: string; readonly status: boolean }, object>

const forms: Record<string, (call: Request, callback: Grpc.sendUnaryData<object>) => void> = {
  /** Settles nothing. */
  alone: (_, callback) => callback(null, {}),
  groups: ({ request: { order_id, status } }, callback) =>
    settle({
      order: order_id,
      status: status ? "COMPLETED" : "FAILED",
      answer: (error) => callback(error, {})
    }),
  /** The same, with one waiting fiber a call. */
  fibers: (call, callback) => {
    const fiber = Effect.runFork(
      Effect.async<Partial<Grpc.ServiceError> | null>((resume) =>
        forms["groups"]!(call, (error) => resume(Effect.succeed(error as Partial<Grpc.ServiceError> | null)))
      ),
      { scheduler: Garbage.scheduler }
    )
    fiber.addObserver((exit) => callback(exit._tag === "Success" ? exit.value : { code: Grpc.status.INTERNAL }, {}))
  }
}

Garbage.staysYoung()
const definitions = ProtoLoader.loadSync("proto/payments.proto", { keepCase: true, longs: String, defaults: true })
const server = new Grpc.Server()
server.addService(definitions["paymentsapi.PaymentsApi"] as Grpc.ServiceDefinition, {
  UpdatePaymentStatus: forms[process.argv[2]!]!
})
server.bindAsync(env["GRPC_ADDR"]!, Grpc.ServerCredentials.createInsecure(), () => console.log("ready"))
