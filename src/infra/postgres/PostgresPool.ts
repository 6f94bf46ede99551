import * as Pg from "pg"
import type { ServiceClient } from "./PostgresConnection.js"
import { ServiceClient as Client } from "./PostgresConnection.js"
import * as PostgresFault from "./PostgresFault.js"
import type { ConnectionOptions } from "./PostgresRoutes.js"

type Connect = (
  error: Error | undefined,
  client: Pg.PoolClient | undefined,
  release: (broken?: unknown) => void
) => void

export interface PoolOptions extends Omit<ConnectionOptions, "onReadOnly"> {
  readonly max: number
  /** Told once that the server gives fewer connections than `max`, and again after it has given all of them. */
  readonly onCrowded: (connections: number, refusal: Error) => void
}

/** The server has no room for another connection; so have poolers, which say all that they have to say with one code. */
const isRefusedForRoom = (error: Error, hasOthers: boolean) =>
  (hasOthers ? /^(53|08P01|08004)/ : /^53/).test(PostgresFault.stateOf(error) ?? "")

/** So often the pool tries to have more connections again, and renews those that are read-only. */
const period = 1_000
/** Where it has no connection at all, it asks again after this. */
const pause = 100

/** A connection that comes back with a statement still running is closed: the next user would queue behind it. */
const closeIfBusy = (_: unknown, client: Pg.PoolClient) => {
  const internals = client as unknown as { readonly _activeQuery: unknown; _queryable: boolean }
  if (internals._activeQuery != null) internals._queryable = false
}

/**
 * Connections of the service. Who finds none free waits, also where the server gives fewer than the pool may have; and none
 * is given out that is older than the last sign that the server was read-only.
 */
export class Pool extends Pg.Pool {
  readonly #full: number
  readonly #onCrowded: PoolOptions["onCrowded"]
  readonly #timeout: number
  /** Whether a pooler stands between, by the last connection that was made. */
  pooled = false
  #connected = 0
  #crowded = false
  #refusal: Error | undefined
  #growing: NodeJS.Timeout | undefined
  /** Older connections are not used any more. */
  #renewed = 0

  constructor({ max, onCrowded, ...options }: PoolOptions) {
    // one host may take the time of the URL, or all of them together ours
    const { connectTimeoutMillis: perHost, hosts } = options.target
    const timeout = perHost === undefined ? options.connectTimeoutMillis : perHost * hosts.length
    const service: ConnectionOptions = { ...options, connectTimeoutMillis: timeout, onReadOnly: () => this.renew() }
    super({
      service,
      // where to, for traces
      host: hosts[0].host,
      port: hosts[0].port,
      database: options.target.database,
      Client,
      max,
      // what it does itself, with a little time to say why it failed
      connectionTimeoutMillis: timeout + 100,
      maxLifetimeSeconds: 60
    } as object)
    this.#full = max
    this.#onCrowded = onCrowded
    this.#timeout = timeout
    // an idle connection that breaks is replaced at the next use; without a listener it would end the process
    this.on("error", () => {})
    this.on("release", closeIfBusy)
    this.on("connect", (client) => {
      this.#connected++
      this.pooled = (client as unknown as ServiceClient).pooled
    })
    this.on("remove", () => void this.#connected--)
  }

  /** The server was seen to be read-only: connections that are open now are replaced when they are needed next. */
  renew() {
    const now = performance.now()
    if (now - this.#renewed >= period) this.#renewed = now
  }

  override connect(): Promise<Pg.PoolClient>
  override connect(callback: Connect): void
  override connect(callback?: Connect): Promise<Pg.PoolClient> | void {
    if (callback === undefined) {
      return new Promise((resolve, reject) =>
        this.#take((error, client) => client === undefined ? reject(error) : resolve(client))
      )
    }
    this.#take(callback)
  }

  #take(callback: Connect, first?: { readonly refusal: Error; readonly until: number }) {
    super.connect((error, client, release) => {
      if (client !== undefined) {
        if ((client as unknown as ServiceClient).born >= this.#renewed) return callback(undefined, client, release)
        release(true)
        return this.#take(callback, first)
      }
      const refused = error !== undefined && isRefusedForRoom(error, this.#connected > 0)
      if (refused) this.#shrink(error)
      const asked = first ?? (refused ? { refusal: error, until: performance.now() + this.#timeout } : undefined)
      if (!refused || this.ending || performance.now() >= asked!.until) {
        return callback(asked?.refusal ?? error, undefined, release)
      }
      // where there are others, it queues for them
      if (this.#connected > 0) this.#take(callback, asked)
      else setTimeout(() => this.#take(callback, asked), pause)
    })
  }

  /** The server has given all that it will for now. */
  #shrink(refusal: Error) {
    this.options.max = Math.max(1, this.#connected)
    this.#refusal = refusal
    this.#growing ??= setTimeout(() => this.#grow(), period).unref()
  }

  #grow() {
    this.#growing = undefined
    // once it has all that others have let it have
    if (!this.#crowded) this.#onCrowded(this.#connected, this.#refusal!)
    this.#crowded = this.#connected < this.#full
    this.options.max = Math.min(this.#full, this.options.max * 2)
    if (this.options.max < this.#full) this.#growing = setTimeout(() => this.#grow(), period).unref()
    // who has queued may go on
    const { _pulseQueue } = this as unknown as { readonly _pulseQueue: () => void }
    _pulseQueue.call(this)
  }
}
