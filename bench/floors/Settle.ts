import * as Grpc from "@grpc/grpc-js"
import * as ProtoLoader from "@grpc/proto-loader"
import { randomUUID } from "node:crypto"
import * as Pg from "pg"

const env = process.env as Record<string, string>
const pool = new Pg.Pool({ connectionString: env["DATABASE_URL"]!, max: 16 })

const refuse = (code: Grpc.status) => Object.assign(new Error(), { code })
const payloadOf = (order: string, status: string) =>
  `{"idempotent_key":"${randomUUID()}","order_id":${order},"status":"${status}"}`

const decide = (before: string | undefined, status: string) => {
  if (before === undefined) throw refuse(Grpc.status.NOT_FOUND)
  if (before !== "CREATED" && before !== status) throw refuse(Grpc.status.FAILED_PRECONDITION)
}

/** One call, one transaction. */
const naive = async (order: string, status: string) => {
  const client = await pool.connect()
  try {
    await client.query("BEGIN")
    const { rows: [row] } = await client.query<{ readonly status: string }>(
      "SELECT status FROM payment WHERE order_id = $1 FOR UPDATE",
      [order]
    )
    if (row?.status === "CREATED") {
      await client.query("UPDATE payment SET status = $2, updated_at = clock_timestamp() WHERE order_id = $1", [
        order,
        status
      ])
      await client.query("INSERT INTO event (topic, order_id, payload) VALUES ('payment', $1, $2)", [
        order,
        payloadOf(order, status)
      ])
    }
    await client.query("COMMIT")
    decide(row?.status, status)
  } finally {
    client.release()
  }
}

/** One call, one statement, prepared once a connection. */
const batched = async (order: string, status: string) => {
  const { rows: [row] } = await pool.query<{ readonly status: string }>({
    name: "settle",
    text: `
      WITH target AS MATERIALIZED (
        SELECT id, status FROM payment WHERE order_id = $1 FOR UPDATE
      ), settled AS (
        UPDATE payment SET status = $2::payment_status, updated_at = clock_timestamp() FROM target
        WHERE payment.id = target.id AND target.status = 'CREATED'
        RETURNING order_id
      ), appended AS (
        INSERT INTO event (topic, order_id, payload) SELECT 'payment', order_id, $3 FROM settled
      )
      SELECT status FROM target
    `,
    values: [order, status, payloadOf(order, status)]
  })
  decide(row?.status, status)
}

const settle = process.argv[2] === "naive" ? naive : batched
const definitions = ProtoLoader.loadSync("proto/payments.proto", { keepCase: true, longs: String, defaults: true })
const service = definitions["paymentsapi.PaymentsApi"] as Grpc.ServiceDefinition
const server = new Grpc.Server()
server.addService(service, {
  UpdatePaymentStatus: (
    { request }: Grpc.ServerUnaryCall<{ readonly order_id: string; readonly status: boolean }, object>,
    callback: Grpc.sendUnaryData<object>
  ) => {
    settle(request.order_id, request.status ? "COMPLETED" : "FAILED").then(
      () => callback(null, {}),
      (error: Grpc.ServiceError) => callback({ code: error.code })
    )
  }
})
server.bindAsync(env["GRPC_ADDR"]!, Grpc.ServerCredentials.createInsecure(), () => console.log("ready"))
