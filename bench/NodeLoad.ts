import * as Grpc from "@grpc/grpc-js"
import * as ProtoLoader from "@grpc/proto-loader"
import { readFileSync } from "node:fs"
import { sleep } from "./Clock.js"
import type { Files, Load, Plan } from "./Load.js"
import { quantile } from "./Stats.js"

const { callers, files, orders, rate, target } = JSON.parse(process.argv[2]!) as Plan & { readonly files?: Files }
const definitions = ProtoLoader.loadSync("proto/payments.proto", { keepCase: true, longs: String })
const Client = Grpc.makeGenericClientConstructor(
  definitions["paymentsapi.PaymentsApi"] as Grpc.ServiceDefinition,
  "PaymentsApi"
)
type Call = (request: object, callback: (error: Grpc.ServiceError | null) => void) => void
const credentials = () => {
  if (files === undefined) return Grpc.credentials.createInsecure()
  const metadata = new Grpc.Metadata()
  metadata.set("authorization", `Bearer ${readFileSync(files.token, "utf8").trim()}`)
  return Grpc.credentials.combineChannelCredentials(
    Grpc.credentials.createSsl(readFileSync(files.ca)),
    Grpc.credentials.createFromMetadataGenerator((_, answer) => answer(null, metadata))
  )
}
const clients = Array.from(
  { length: Math.min(4, callers) },
  (_, i) => new Client(target, credentials(), { "grpc.use_local_subchannel_pool": i + 1 })
)

const millis: Array<number> = []
let [next, ok] = [0, 0]
const began = performance.now()
const cpu = process.cpuUsage()

const caller = async (_: unknown, n: number) => {
  const client = clients[n % clients.length]!
  const call = (client["UpdatePaymentStatus"] as Call).bind(client)
  while (next < orders.count) {
    const order = orders.first + next++
    if (rate !== undefined) await sleep(Math.max(0, began + ((order - orders.first) * 1000) / rate - performance.now()))
    const since = performance.now()
    await new Promise<void>((resolve) =>
      call({ order_id: order, status: true }, (error) => {
        if (error === null) ok++
        resolve()
      })
    )
    millis.push(performance.now() - since)
  }
}

await Promise.all(Array.from({ length: callers }, caller))
const seconds = (performance.now() - began) / 1000
const load: Load = {
  calls: orders.count,
  ok,
  rate: orders.count / seconds,
  p50: quantile(millis, 0.5),
  p99: quantile(millis, 0.99),
  cpu: Object.values(process.cpuUsage(cpu)).reduce((sum, micros) => sum + micros, 0) / orders.count
}
console.log(JSON.stringify(load))
clients.forEach((client) => client.close())
