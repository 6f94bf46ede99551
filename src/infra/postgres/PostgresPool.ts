import * as Pg from "pg"
import { SecretUnreadable } from "../runtime/Secret.js"
import type { ServiceClient } from "./PostgresConnection.js"
import { ServiceClient as Client } from "./PostgresConnection.js"
import * as PostgresFault from "./PostgresFault.js"
import * as PostgresInternals from "./PostgresInternals.js"
import type { ConnectionOptions } from "./PostgresRoutes.js"

type Connect = (
  error: Error | undefined,
  client: Pg.PoolClient | undefined,
  release: (broken?: unknown) => void
) => void

export interface PoolOptions extends Omit<ConnectionOptions, "onDemoted"> {
  readonly max: number
  /** Called once when the server allows fewer connections than `max`, and again only after it has allowed all of them. */
  readonly onCrowded: (connections: number, refusal: Error) => void
}

/** True when the server has no slot for another connection. Poolers have only general codes for that. */
const isRefusedForRoom = (error: Error, hasOthers: boolean) =>
  (hasOthers ? /^(53|08P01|08004)/ : /^53/).test(PostgresFault.stateOf(error) ?? "")

/** True for a refusal of this password or certificate: while both are being replaced, the open connections go on. */
const isRefusedAnew = (error: Error) => PostgresFault.of(error) === "refused" || error instanceof SecretUnreadable

/** Milliseconds between attempts to grow the pool again, and between renewals of read-only connections. */
const period = 1_000
/** Milliseconds until the next attempt when the pool has no connection at all. */
const pause = 100
/** Longest wait for a password, in milliseconds: a command may ask another service for it. */
const passwordMillis = 25_000

/** The statement by which `@effect/sql-pg` and `PostgresStatement` cancel the statement of a server process. */
const cancellation = /^SELECT pg_cancel_backend\((\d+)\)$/

interface Internals {
  readonly _activeQuery: unknown
  readonly processID: number
  _queryable: boolean
}

/**
 * Pool of connections. Callers queue when none is free, also when the server allows fewer than `max`. The pool gives out no
 * connection that is older than the last sign that its server is not the primary any more.
 */
export class Pool extends Pg.Pool {
  readonly #full: number
  readonly #onCrowded: PoolOptions["onCrowded"]
  readonly #timeout: number
  /** True when a pooler is between, by the newest connection. */
  pooled = false
  #connected = 0
  #crowded = false
  #refusal: Error | undefined
  #growing: NodeJS.Timeout | undefined
  /** Time (`performance.now()`) of the last renewal: older connections are not given out. */
  #renewed = 0
  /** Server processes that a cancellation is on its way to. */
  readonly #cancelled = new Set<number>()
  /** Of each connection. */
  readonly service: ConnectionOptions

  constructor({ max, onCrowded, ...options }: PoolOptions) {
    PostgresInternals.check()
    // `connect_timeout` of the URL is for one host, the default for all hosts together
    const { connectTimeoutMillis: perHost, hosts } = options.target
    const timeout = perHost === undefined ? options.connectTimeoutMillis : perHost * hosts.length
    const service: ConnectionOptions = { ...options, connectTimeoutMillis: timeout, onDemoted: () => this.renew() }
    super({
      service,
      // destination, for traces
      host: hosts[0].host,
      port: hosts[0].port,
      database: options.target.database,
      Client,
      max,
      // a little later than the client's own limit, whose error has the reason
      connectionTimeoutMillis: timeout + 100 + (options.password === undefined ? 0 : passwordMillis),
      maxLifetimeSeconds: 60
    } as object)
    this.service = service
    this.#full = max
    this.#onCrowded = onCrowded
    this.#timeout = timeout
    // the pool replaces a broken idle connection; an error without a listener would end the process
    this.on("error", () => {})
    this.on("release", (_, client) => this.#closeIfBusy(client as unknown as Internals))
    this.on("connect", (client) => {
      this.#connected++
      this.pooled = (client as unknown as ServiceClient).pooled
    })
    this.on("remove", (client) => {
      this.#connected--
      this.#cancelled.delete((client as unknown as Internals).processID)
    })
  }

  /**
   * Closes a connection that is released while its statement runs, or while a cancellation is on its way: the next user would
   * queue behind the statement, or its own statement would be cancelled.
   */
  #closeIfBusy(client: Internals) {
    if (client._activeQuery != null || this.#cancelled.has(client.processID)) client._queryable = false
  }

  override query(...args: Array<any>): any {
    const [text, then] = args
    const pid = typeof text === "string" ? cancellation.exec(text)?.[1] : undefined
    if (pid === undefined) return super.query(...args as [string])
    this.#cancelled.add(Number(pid))
    return super.query(text, (error: Error | undefined, result: Pg.QueryResult) => {
      // without an answer it may still arrive
      if (error === undefined) this.#cancelled.delete(Number(pid))
      then(error, result)
    })
  }

  /** Call it when the server may not be the primary any more: each open connection is replaced at its next use. */
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
      const others = this.#connected > 0
      const refused = error !== undefined && (isRefusedForRoom(error, others) || (others && isRefusedAnew(error)))
      if (refused) this.#shrink(error)
      const asked = first ?? (refused ? { refusal: error, until: performance.now() + this.#timeout } : undefined)
      if (!refused || this.ending || performance.now() >= asked!.until) {
        return callback(asked?.refusal ?? error, undefined, release)
      }
      // queues for an existing connection
      if (this.#connected > 0) this.#take(callback, asked)
      else setTimeout(() => this.#take(callback, asked), pause)
    })
  }

  /** Limits the pool to the connections that the server has allowed. */
  #shrink(refusal: Error) {
    this.options.max = Math.max(1, this.#connected)
    this.#refusal = refusal
    this.#growing ??= setTimeout(() => this.#grow(), period).unref()
  }

  #grow() {
    this.#growing = undefined
    // reports once, when the number of connections has settled
    if (!this.#crowded) this.#onCrowded(this.#connected, this.#refusal!)
    this.#crowded = this.#connected < this.#full
    this.options.max = Math.min(this.#full, this.options.max * 2)
    if (this.options.max < this.#full) this.#growing = setTimeout(() => this.#grow(), period).unref()
    // pg-pool does not notice that `max` has grown
    const { _pulseQueue } = this as unknown as { readonly _pulseQueue: () => void }
    _pulseQueue.call(this)
  }
}
