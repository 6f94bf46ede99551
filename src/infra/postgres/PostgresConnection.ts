import * as Pg from "pg"
import * as PostgresAdvice from "./PostgresAdvice.js"
import * as PostgresFault from "./PostgresFault.js"
import { PostgresRefusal } from "./PostgresFault.js"
import * as PostgresInternals from "./PostgresInternals.js"
import { PreparingClient } from "./PostgresPrepared.js"
import type { Attempt, ConnectionOptions } from "./PostgresRoutes.js"
import { attemptsOf, encryptions, following, suits, summary, unsuited } from "./PostgresRoutes.js"
import * as PostgresSession from "./PostgresSession.js"
import * as PostgresTimeline from "./PostgresTimeline.js"
import * as PostgresTls from "./PostgresTls.js"
import type { Target } from "./PostgresUrl.js"
import type { Host } from "./PostgresUrlParts.js"

/** Private members of `Pg.Client`; see README.md. */
interface Internals {
  connection: Pg.Connection & { stream: { destroy: (cause?: Error) => void } }
  processID: number | null
  _queryable: boolean
}

/** Hosts without TLS support. When the mode allows both, they are tried without TLS first. */
const plain = new Set<string>()

/** Message of pg for a server without TLS support; the error has no code. */
const withoutTls = "The server does not support SSL connections"

/** Longest look at one of the other hosts, in milliseconds. */
const lookMillis = 1_000

/** Milliseconds until the next look when a host gave no answer. */
const lookAgainMillis = 10_000

/** The look at the other hosts of a URL: one for all connections of the process. */
const looks = new WeakMap<Target, Promise<void>>()

type Callback = (error?: Error) => void

/**
 * A connection to the first suitable host of the URL, in an encryption mode that the URL allows, with the session settings of
 * `PostgresSession`.
 *
 * `Pg.Client` knows one host and one mode. This class points the client to the next attempt after a failure, before the client
 * is in use.
 */
export class ServiceClient extends PreparingClient {
  readonly #options: ConnectionOptions
  /** Time of creation, `performance.now()`. */
  readonly born = performance.now()
  /** Current user of the session; known when connected. */
  role: string | undefined
  /** True when a pooler is between; known when connected. */
  pooled = false
  #boundToChannel = false
  /** Of a primary; undefined for a standby, and where a provider hides the log. */
  timeline: PostgresTimeline.Timeline | undefined

  constructor({ service }: { readonly service: ConnectionOptions }) {
    const { channelBinding, database, tls, user } = service.target
    super({
      user,
      database,
      password: PostgresTls.password(service.target),
      host: service.target.hosts[0].host,
      port: service.target.hosts[0].port,
      ssl: false,
      enableChannelBinding: channelBinding !== "disable",
      ...(tls.direct ? { sslnegotiation: "postgres" } : {})
    } as Pg.ClientConfig)
    this.#options = service
    PostgresInternals.check()
  }

  /** Start-up parameters, without the environment's and without those that poolers refuse. */
  getStartupConf() {
    const { applicationName, target } = this.#options
    return {
      user: target.user,
      database: target.database,
      application_name: target.applicationName ?? applicationName,
      ...(target.options === undefined ? {} : { options: target.options })
    }
  }

  /** Closes the current connection and ignores its further events. */
  #drop() {
    const { connection } = this as unknown as Internals
    // an error without a listener would end the process
    connection.removeAllListeners().on("error", () => {})
    connection.stream.destroy()
  }

  /** Resets this client to its initial state, with a new connection for the attempt. */
  #pointTo({ encrypted, host }: Attempt) {
    const { keepAlive, keepAliveMillis, tls } = this.#options.target
    const ssl = encrypted ? PostgresTls.options(tls, host) : false
    const self = this as unknown as Internals
    this.#drop()
    const sslNegotiation = tls.direct ? "direct" : "postgres"
    const connection = new Pg.Connection({
      ssl,
      keepAlive,
      keepAliveInitialDelayMillis: keepAliveMillis,
      sslNegotiation
    } as Pg.ConnectionConfig) as Internals["connection"]
    Object.assign(self, {
      connection,
      host: host.address ?? host.host,
      port: host.port,
      ssl,
      sslNegotiation,
      saslSession: null,
      readyForQuery: false,
      _connecting: false,
      _connected: false,
      _connectionError: false,
      _ended: false,
      _queryable: true
    })
    connection.on("errorMessage", (error: Pg.DatabaseError & { role?: string }) => {
      if (this.role !== undefined) error.role = this.role
      if (error.code === "25006") this.#options.onDemoted?.()
    })
    this.#boundToChannel = false
    this.timeline = undefined
  }

  /** Makes one attempt and returns the facts of the session. */
  #try(attempt: Attempt, millis: number, callback: (error: Error | undefined, facts?: PostgresSession.Facts) => void) {
    let ended = false
    const end = (error: Error | null | undefined, facts?: PostgresSession.Facts) => {
      clearTimeout(timer)
      if (ended) return
      ended = true
      callback(error ?? undefined, facts)
    }
    const self = this as unknown as Internals
    const timer = setTimeout(() => {
      const { host, port } = attempt.host
      end(
        Object.assign(new Error(`no answer from ${host}:${port} within ${Math.round(millis)} ms`), {
          code: "ETIMEDOUT"
        })
      )
    }, millis)
    try {
      this.#pointTo(attempt)
    } catch (error) {
      return end(error as Error)
    }
    super.connect((error: Error | null) => {
      if (error !== null && error !== undefined) {
        if (error.message === withoutTls) plain.add(attempt.host.host)
        const refused = error.message === withoutTls && !encryptions[this.#options.target.tls.mode].includes(false)
        return end(refused ? new PostgresRefusal(PostgresAdvice.noTls) : error)
      }
      if (this.#options.target.channelBinding === "require" && !this.#boundToChannel) {
        return end(new PostgresRefusal("the server asked for no password, so channel_binding=require cannot be met"))
      }
      super.query(PostgresSession.opening(this.#options.target.options), (error: Error | null, results: unknown) => {
        if (error !== null) return end(error)
        const [facts] = (results as ReadonlyArray<Pg.QueryResult<PostgresSession.Facts>>).at(-1)!.rows
        if (facts!.standby) return end(undefined, facts)
        super.query(
          PostgresTimeline.query,
          (error: Error | null, result: Pg.QueryResult<PostgresTimeline.Timeline>) => {
            // where a provider hides the log, every primary is taken
            const [timeline] = error === null ? result.rows : []
            if (timeline === undefined) return end(undefined, facts)
            this.timeline = timeline
            const standing = PostgresTimeline.meet(timeline)
            if (standing === "newer") this.#options.onDemoted?.()
            end(standing === "old" ? new PostgresTimeline.OldPrimary(timeline) : undefined, facts)
          }
        )
      })
    })
    if (this.#options.target.channelBinding === "require") {
      PostgresTls.demandBinding(self.connection, () => this.#boundToChannel = true)
    }
  }

  override connect(): Promise<this>
  override connect(callback: Callback): void
  override connect(callback?: Callback): Promise<this> | void {
    if (callback === undefined) {
      return new Promise((resolve, reject) =>
        this.connect((error) => error === undefined ? resolve(this) : reject(error))
      )
    }
    const { password } = this.#options
    if (password === undefined) return this.#connectWith(callback)
    // before the first attempt: a server gives a connection that says nothing only little time
    password().then(
      (text) => {
        Object.assign(this, { password: text })
        this.#connectWith(callback)
      },
      callback
    )
  }

  #connectWith(callback: Callback) {
    const { connectTimeoutMillis, target } = this.#options
    const attempts = attemptsOf(target, plain)
    const until = performance.now() + connectTimeoutMillis
    const failures: Array<string> = []
    // until it is connected, the attempts report the errors
    const ignore = () => {}
    this.on("error", ignore)
    const end = (error?: Error) => {
      this.off("error", ignore)
      if (error !== undefined) this.#drop()
      callback(error)
    }
    const next = (index: number): void => {
      const attempt = attempts[index]!
      // the hosts of this round share the time; a host that does not answer is not tried in another mode
      const hosts = attempts.slice(index).filter((_) => _.encrypted === attempt.encrypted && _.wants === attempt.wants)
      const millis = Math.min(target.connectTimeoutMillis ?? Infinity, (until - performance.now()) / hosts.length)
      const tried = (error: Error | undefined, facts?: PostgresSession.Facts): void => {
        if (error === undefined && suits(attempt.wants, facts!)) {
          const self = this as unknown as Internals
          this.role = facts!.role
          this.pooled = self.processID !== facts!.pid
          // `pg_cancel_backend` needs the process of the server, not of the pooler
          self.processID = facts!.pid
          const { timeline } = this
          if (timeline === undefined) return end()
          const others = target.hosts.filter((host) => !attempts.slice(0, index + 1).some((_) => _.host === host))
          return void this.#look(others, until - performance.now()).then(() =>
            PostgresTimeline.isOld(timeline) ? tried(new PostgresTimeline.OldPrimary(timeline)) : end()
          )
        }
        const { host, port } = attempt.host
        const failure = error === undefined ? unsuited(attempt.wants) : PostgresAdvice.advise(error, this.#options)
        const line = `${host}:${port} ${PostgresFault.explain(failure)}`
        if (!failures.includes(line)) failures.push(line)
        const then = following(attempts, index, error)
        if (then !== undefined && performance.now() < until) return next(then)
        end(target.hosts.length === 1 ? failure : summary(failures, failure))
      }
      this.#try(attempt, millis, tried)
    }
    next(0)
  }

  /**
   * Connects once to hosts that were not tried, to learn their timelines: to a process that starts, an old primary that came back looks
   * like the right one.
   */
  #look(hosts: ReadonlyArray<Host>, millis: number): Promise<void> {
    const { applicationName, onDemoted, password, target } = this.#options
    const known = looks.get(target)
    if (known !== undefined) return known
    const text = (this as unknown as { readonly password: string }).password
    const ask = async (host: Host) => {
      const client = new ServiceClient({
        service: {
          applicationName,
          target: { ...target, hosts: [host], session: "any" },
          connectTimeoutMillis: Math.min(millis, lookMillis),
          password: password && (() => Promise.resolve(text)),
          ...(onDemoted === undefined ? {} : { onDemoted })
        }
      }).on("error", () => {})
      await client.connect()
      await client.end()
    }
    const look = Promise.allSettled(hosts.map(ask)).then((answers) => {
      const silent = answers.some((answer) => answer.status === "rejected" && answer.reason?.code === "ETIMEDOUT")
      if (silent) setTimeout(() => looks.delete(target), lookAgainMillis).unref()
    })
    looks.set(target, look)
    return look
  }
}
