import type { RedisOptions } from "ioredis"
import { AbstractConnector, Redis as Client } from "ioredis"
import * as Net from "node:net"
import * as NodeTls from "node:tls"
import type { Address } from "../runtime/Setting.js"
import { showAddress } from "../runtime/Setting.js"
import * as RedisAuth from "./RedisAuth.js"
import { NoPrimary } from "./RedisProblem.js"
import type { Sentinels } from "./RedisUrl.js"

/** One that stands still takes connections, too. Milliseconds. */
const patience = 2_000

/** The address of the primary, as this Sentinel tells it. */
const ask = async (sentinel: Address, { name, password }: Sentinels, tls: RedisOptions["tls"]): Promise<Address> => {
  const client = new Client({
    ...sentinel,
    ...(password === undefined ? {} : { password }),
    ...(tls === undefined ? {} : { tls }),
    lazyConnect: true,
    connectTimeout: patience,
    commandTimeout: patience,
    maxRetriesPerRequest: 0,
    retryStrategy: () => null,
    enableReadyCheck: false,
    disableClientInfo: true
  })
  let failure: Error | undefined
  // calls fail with another error, which says less
  client.on("error", (error) => (failure ??= error))
  RedisAuth.quieten(client, () => {})
  try {
    await client.connect()
    const reply = await client.call("SENTINEL", "get-master-addr-by-name", name)
    if (!Array.isArray(reply)) throw new Error(`knows no primary of the name ${name}`)
    return { host: String(reply[0]), port: Number(reply[1]) }
  } catch (error) {
    throw failure ?? error
  } finally {
    client.disconnect()
  }
}

/**
 * The way to the primary that Sentinels tell, for ioredis. Each new connection asks them again, in their order. Where none leads to
 * it, that attempt to connect fails with `NoPrimary`. The connector of ioredis would repeat it by itself, with the
 * certificates of before, and hides the reasons.
 */
export const connector = (sentinels: Sentinels) =>
  class extends AbstractConnector {
    readonly #options: RedisOptions

    // ioredis writes the options of the next connection into the same object
    constructor(options: unknown) {
      super(patience)
      this.#options = options as RedisOptions
    }

    /** A socket on its way to the primary, or one that has failed: ioredis connects again later. */
    async #open(): Promise<Net.Socket> {
      const { tls } = this.#options
      const failed: Array<{ readonly at: string; readonly error: unknown }> = []
      for (const sentinel of sentinels.addresses) {
        try {
          const primary = await ask(sentinel, sentinels, tls)
          if (this.connecting) {
            return tls === undefined
              ? Net.connect(primary)
              : NodeTls.connect({ ...primary, ...tls as NodeTls.ConnectionOptions })
          }
        } catch (error) {
          failed.push({ at: showAddress(sentinel), error })
        }
        // the client was closed meanwhile
        if (!this.connecting) return new Net.Socket().destroy()
      }
      this.firstError = new NoPrimary(failed, tls !== undefined)
      return new Net.Socket().destroy()
    }

    async connect() {
      this.connecting = true
      delete this.firstError
      this.stream = await this.#open()
      this.stream.once("error", (error) => (this.firstError = error))
      return this.stream
    }
  }
