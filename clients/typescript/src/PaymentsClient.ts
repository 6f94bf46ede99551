import * as Grpc from "@grpc/grpc-js"
import { setTimeout as sleep } from "node:timers/promises"
import type { ClientTls } from "./Channel.js"
import * as Channel from "./Channel.js"
import { fromService, PaymentsError } from "./PaymentsError.js"
import type { Token } from "./Token.js"
import { check as checkToken, current, TokenUnprotected } from "./Token.js"

export type { ClientTls } from "./Channel.js"

export interface ClientOptions {
  /** `host:port` of the gRPC server. */
  readonly address: string
  /** Limit of a call with its retries, in milliseconds. Default: 5,000. */
  readonly deadlineMillis?: number | undefined
  /** Whether to repeat a call that ended UNAVAILABLE or RESOURCE_EXHAUSTED, within its deadline. Default: true. */
  readonly retries?: boolean | undefined
  /** True: TLS, with the roots of Node. Default: no TLS. */
  readonly tls?: true | ClientTls | undefined
  /** Sent with each call as `authorization: Bearer …`: with TLS, and to the loopback address. A file is read at each call. */
  readonly token?: Token | undefined
  /**
   * Whether to call other machines through the proxy of `grpc_proxy`, `https_proxy` or `http_proxy`, except those in `no_proxy`.
   * Default: false.
   */
  readonly proxy?: boolean | undefined
}

export interface CallOptions {
  /** Limit of this call, in milliseconds. */
  readonly deadlineMillis?: number | undefined
  /** Cancels the call. It may have taken effect. */
  readonly signal?: AbortSignal | undefined
  /** W3C `traceparent` of the caller. */
  readonly traceparent?: string | undefined
}

export interface WatchOptions {
  /** Longest wait for the end of the payment, in milliseconds. Default: 60,000. */
  readonly withinMillis?: number | undefined
  /** Ends the watch. */
  readonly signal?: AbortSignal | undefined
}

/** CREATED waits to be paid. COMPLETED and FAILED are for good. */
export type Status = "CREATED" | "COMPLETED" | "FAILED"

export interface Payment {
  readonly orderId: bigint
  readonly status: Status
  /** When the order's stock was reserved. */
  readonly createdAt: Date
  /** When the payment got its present status. */
  readonly updatedAt: Date
  /** Name of the caller that settled it; `expiry` when no call did in time. Undefined for a caller without a name. */
  readonly settledBy: string | undefined
  /** Events of the payment that topic `payment` does not have yet, in their order. Usually none. */
  readonly pending: ReadonlyArray<PendingEvent>
}

export interface PendingEvent {
  readonly id: string
  /** The status that the event announces. */
  readonly says: Status
  /** The broker refused the event for good: it, and the events behind it, wait for an operator. */
  readonly dead: boolean
  /** Refusals of the broker. */
  readonly attempts: number
  /** The last error of the broker. Empty without one. */
  readonly lastError: string
}

/** A client of Payments. Calls reject with `PaymentsError`, `TokenUnreadable`, or the reason of their signal. */
export interface PaymentsClient {
  /** The payment of an order. NOT_FOUND: the order has none (yet). */
  readonly get: (orderId: bigint, options?: CallOptions) => Promise<Payment>
  /** Pays an order. Paying it again changes nothing. FAILED_PRECONDITION: it is refused, or its payment has expired. */
  readonly pay: (orderId: bigint, options?: CallOptions) => Promise<void>
  /** Refuses the payment of an order. Refusing it again changes nothing. FAILED_PRECONDITION: the order is paid. */
  readonly refuse: (orderId: bigint, options?: CallOptions) => Promise<void>
  /**
   * The payment of an order at each change of status that it sees, until it is COMPLETED or FAILED. It asks again and again
   * with a pause of 0.1 s that grows to 2 s, waits for a payment that is not there yet, and goes on when the server is away.
   * Rejects with DEADLINE_EXCEEDED when the payment has not ended within `withinMillis`.
   */
  readonly watch: (orderId: bigint, options?: WatchOptions) => AsyncGenerator<Payment, void, undefined>
  /** Resolves to true when the server and its database have answered. */
  readonly ping: (options?: CallOptions) => Promise<boolean>
  /** Closes the connection. */
  readonly close: () => void
}

interface WireTime {
  readonly seconds: string
  readonly nanos: number
}

type WireStatus = `PAYMENT_STATUS_${Status}`

interface WirePayment {
  readonly order_id: string
  readonly status: WireStatus
  readonly created_at: WireTime
  readonly updated_at: WireTime
  readonly pending: ReadonlyArray<{
    readonly id: string
    readonly says: WireStatus
    readonly dead: boolean
    readonly attempts: number
    readonly last_error: string
  }>
  readonly settled_by: string
}

const statusOf = (status: WireStatus) => status.replace("PAYMENT_STATUS_", "") as Status
const dateOf = ({ nanos, seconds }: WireTime) => new Date(Number(seconds) * 1_000 + nanos / 1_000_000)

const paymentOf = (wire: WirePayment): Payment => ({
  orderId: BigInt(wire.order_id),
  status: statusOf(wire.status),
  createdAt: dateOf(wire.created_at),
  updatedAt: dateOf(wire.updated_at),
  settledBy: wire.settled_by === "" ? undefined : wire.settled_by,
  pending: wire.pending.map(({ attempts, dead, id, last_error, says }) => ({
    id,
    says: statusOf(says),
    dead,
    attempts,
    lastError: last_error
  }))
})

type Call = (
  request: object,
  metadata: Grpc.Metadata,
  options: Grpc.CallOptions,
  callback: (error: Grpc.ServiceError | null, response: unknown) => void
) => Grpc.ClientUnaryCall

/**
 * A client of the gRPC server at this address. It connects at its first call; `close` ends it.
 *
 * Throws `TokenUnprotected` for a token that would be sent to another machine without TLS, and `TypeError` for one that is not
 * one word of ASCII.
 */
export const connect = (options: ClientOptions): PaymentsClient => {
  const { address, proxy = false, retries = true, token } = options
  const tls = options.tls === true ? {} : options.tls
  if (token !== undefined) checkToken(token)
  if (token !== undefined && tls === undefined && !Channel.isLoopback(address)) throw new TokenUnprotected(address)
  const client = Channel.open({ address, proxy, retries, tls })

  const call = async (method: string, request: object, of: CallOptions = {}): Promise<unknown> => {
    const { deadlineMillis = options.deadlineMillis ?? 5_000, signal, traceparent } = of
    signal?.throwIfAborted()
    const metadata = new Grpc.Metadata()
    if (token !== undefined) metadata.set("authorization", `Bearer ${current(token)}`)
    if (traceparent !== undefined) metadata.set("traceparent", traceparent)
    return await new Promise((resolve, reject) => {
      const start: Call = client[method]!.bind(client)
      const running = start(request, metadata, { deadline: Date.now() + deadlineMillis }, (error, response) => {
        signal?.removeEventListener("abort", cancel)
        if (error === null) resolve(response)
        else reject(fromService(address, method, error))
      })
      const cancel = () => {
        reject(signal!.reason)
        running.cancel()
      }
      signal?.addEventListener("abort", cancel, { once: true })
    })
  }

  const settle = async (orderId: bigint, status: boolean, of?: CallOptions) => {
    await call("UpdatePaymentStatus", { order_id: String(orderId), status }, of)
  }

  const get = async (orderId: bigint, of?: CallOptions) =>
    paymentOf(await call("GetPayment", { order_id: String(orderId) }, of) as WirePayment)

  /** The payment now; undefined when it is not there yet, or the server is away. */
  const glimpse = async (orderId: bigint, of: CallOptions) => {
    try {
      return await get(orderId, of)
    } catch (error) {
      if (error instanceof PaymentsError && (error.retryable || error.code === "NOT_FOUND")) return undefined
      throw error
    }
  }

  async function* watch(orderId: bigint, { signal, withinMillis = 60_000 }: WatchOptions = {}) {
    const end = Date.now() + withinMillis
    let seen: Status | undefined
    for (let pause = 100;; pause = Math.min(pause * 1.5, 2_000)) {
      const left = end - Date.now()
      if (left <= 0) {
        const state = seen === undefined ? "was not there" : `was ${seen}`
        throw new PaymentsError(
          address,
          "watch",
          "DEADLINE_EXCEEDED",
          `the payment of order ${orderId} ${state} after ${withinMillis} ms`
        )
      }
      const payment = await glimpse(orderId, {
        signal,
        deadlineMillis: Math.min(left, options.deadlineMillis ?? 5_000)
      })
      if (payment !== undefined && payment.status !== seen) {
        seen = payment.status
        yield payment
        if (seen !== "CREATED") return
      }
      await sleep(Math.min(pause, Math.max(end - Date.now(), 0)), undefined, { signal })
    }
  }

  return {
    get,
    pay: (orderId, of) => settle(orderId, true, of),
    refuse: (orderId, of) => settle(orderId, false, of),
    watch,
    ping: async (of) => (await call("GetPing", {}, of) as { readonly pong: boolean }).pong,
    close: () => client.close()
  }
}
