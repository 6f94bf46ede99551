/**
 * Pays an order and prints what becomes of its payment:
 *
 *     ORDER=211 PAYMENTS=localhost:8081 node pay.js
 */
import { connect, PaymentsError } from "payments-client"

const { ORDER = "211", PAYMENTS = "localhost:8081", TOKEN_FILE } = process.env
const orderId = BigInt(ORDER)
const payments = connect({ address: PAYMENTS, ...(TOKEN_FILE === undefined ? {} : { token: { file: TOKEN_FILE } }) })

try {
  // the reservation of an order takes a moment until it is a payment
  for await (const { status, updatedAt } of payments.watch(orderId, { withinMillis: 10_000 })) {
    console.log(`order ${orderId} ${status} since ${updatedAt.toISOString()}`)
    if (status === "CREATED") await payments.pay(orderId)
  }
} catch (error) {
  if (!(error instanceof PaymentsError)) throw error
  console.error(`${error.message} (${error.reason ?? "no reason"})`)
  process.exitCode = error.retryable ? 5 : 1
} finally {
  payments.close()
}
