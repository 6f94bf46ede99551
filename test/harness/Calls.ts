import * as Grpc from "@grpc/grpc-js"
import * as ProtoLoader from "@grpc/proto-loader"
import { Effect } from "effect"
import { fileURLToPath } from "node:url"

const proto = fileURLToPath(new URL("../../proto/payments.proto", import.meta.url))
const definition = Grpc.loadPackageDefinition(
  ProtoLoader.loadSync(proto, { keepCase: true, longs: String, enums: String })
) as any

/** The name of the code of a call, and the response when it is OK. */
export interface Called {
  readonly code: string
  readonly details: string
  readonly response: any
}

/** Credentials of a caller: the certificate of the server's authority, and a token. */
export interface Credentials {
  readonly ca: string
  readonly token: string
}

const channel = ({ ca, token }: Credentials) =>
  Grpc.credentials.combineChannelCredentials(
    Grpc.credentials.createSsl(Buffer.from(ca)),
    Grpc.credentials.createFromMetadataGenerator((_, done) => {
      const metadata = new Grpc.Metadata()
      metadata.set("authorization", `Bearer ${token}`)
      done(null, metadata)
    })
  )

/** A gRPC client from the proto file, independent of the project's own, for the life of the scope. */
export const make = Effect.fnUntraced(function*(address: string, credentials?: Credentials) {
  const client = yield* Effect.acquireRelease(
    Effect.sync(() =>
      new definition.paymentsapi.PaymentsApi(
        address,
        credentials === undefined ? Grpc.credentials.createInsecure() : channel(credentials)
      ) as Grpc.Client
    ),
    (client) => Effect.sync(() => client.close())
  )

  const call = (method: string, request: object): Effect.Effect<Called> =>
    Effect.async((resume) => {
      ;(client as any)[method](
        request,
        { deadline: Date.now() + 10_000 },
        (error: Grpc.ServiceError | null, response: any) =>
          resume(
            Effect.succeed({
              code: Grpc.status[error?.code ?? Grpc.status.OK]!,
              details: error?.details ?? "",
              response
            })
          )
      )
    })

  return {
    call,
    pay: (orderId: bigint | number) => call("UpdatePaymentStatus", { order_id: String(orderId), status: true }),
    // proto3 clients omit false
    refuse: (orderId: bigint | number) => call("UpdatePaymentStatus", { order_id: String(orderId) })
  } as const
})
