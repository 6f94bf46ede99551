import { readFileSync } from "node:fs"
import { isIP } from "node:net"
import type * as NodeTls from "node:tls"
import * as Pg from "pg"
import * as PostgresFault from "./PostgresFault.js"
import { PostgresReadOnly, PostgresRefusal } from "./PostgresFault.js"
import { PreparingClient } from "./PostgresPrepared.js"
import * as PostgresSession from "./PostgresSession.js"
import type { Host, Target, Tls, WantedSession } from "./PostgresUrl.js"

export interface ConnectionOptions {
  readonly target: Target
  /** Where the URL gives none. */
  readonly applicationName: string
  /** For all hosts together. */
  readonly connectTimeoutMillis: number
  /** Told when a statement met a read-only transaction. */
  readonly onReadOnly?: () => void
}

/** One way to a server. */
interface Attempt {
  readonly host: Host
  readonly encrypted: boolean
  readonly wants: WantedSession
}

const encryptions: Readonly<Record<Tls["mode"], ReadonlyArray<boolean>>> = {
  disable: [false],
  allow: [false, true],
  prefer: [true, false],
  require: [true],
  "verify-ca": [true],
  "verify-full": [true]
}

/** A first look at all hosts, and where it finds none that is wanted, a second. */
const rounds = (session: WantedSession): ReadonlyArray<WantedSession> =>
  session === "prefer-standby" ? ["standby", "any"] : session === "prefer-read-write" ? ["read-write", "any"] : [session]

const attemptsOf = ({ hosts, session, shuffled, tls }: Target): ReadonlyArray<Attempt> => {
  const order = shuffled ? [...hosts].sort(() => Math.random() - 0.5) : hosts
  return rounds(session).flatMap((wants) =>
    order.flatMap((host) =>
      // a Unix socket does not leave the machine
      (host.host.startsWith("/") ? [false] : encryptions[tls.mode]).map((encrypted) => ({ host, encrypted, wants }))
    )
  )
}

const suits = (wants: WantedSession, { readonly, standby }: PostgresSession.Facts) =>
  wants === "read-write"
    ? !readonly
    : wants === "read-only"
    ? readonly
    : wants === "primary"
    ? !standby
    : wants === "standby"
    ? standby
    : true

const file = (parameter: string, path: string | undefined) => {
  if (path === undefined) return undefined
  try {
    return readFileSync(path)
  } catch (cause) {
    throw new PostgresRefusal(`${parameter} cannot be read: ${(cause as Error).message}`)
  }
}

/** As libpq has it: without a file of certificates, `require` and weaker encrypt and trust anybody. */
const tlsOptions = (tls: Tls, { address, host }: Host): NodeTls.ConnectionOptions => {
  const verifies = tls.mode === "verify-full" || tls.mode === "verify-ca" ||
    (tls.rootCert !== undefined && tls.mode === "require")
  const [cert, key, crl] = [file("sslcert", tls.cert), file("sslkey", tls.key), file("sslcrl", tls.crl)]
  const ca = tls.rootCert === "system" ? undefined : file("sslrootcert", tls.rootCert)
  return {
    rejectUnauthorized: verifies,
    ...(verifies && tls.mode !== "verify-full" ? { checkServerIdentity: () => undefined } : {}),
    // the name to verify, and not the address that stands for it
    ...(address === undefined ? {} : { host, ...(isIP(host) === 0 ? { servername: host } : {}) }),
    ...(ca === undefined ? {} : { ca }),
    ...(crl === undefined ? {} : { crl }),
    ...(cert === undefined ? {} : { cert }),
    ...(key === undefined ? {} : { key }),
    ...(tls.keyPassword === undefined ? {} : { passphrase: tls.keyPassword }),
    ...(tls.minVersion === undefined ? {} : { minVersion: tls.minVersion as NodeTls.SecureVersion }),
    ...(tls.maxVersion === undefined ? {} : { maxVersion: tls.maxVersion as NodeTls.SecureVersion })
  }
}

const passwordOf = ({ password }: Target) => () => {
  if (password) return password
  throw new PostgresRefusal("the server asks for a password, and the URL has none")
}

/** What of `Pg.Client` is not public. */
interface Internals {
  connection: Pg.Connection & { stream: { destroy: (cause?: Error) => void } }
  processID: number | null
  _queryable: boolean
}

/** What of the library says that a server does not do TLS; it has no code for it. */
const withoutTls = "The server does not support SSL connections"

/** Whom nobody answers at: another way to the same host leads nowhere, too. */
const isNowhere = (error: Error) => "code" in error && /^(ECONNREFUSED|ETIMEDOUT|ENOTFOUND|EAI_|EHOST|ENET|ENOENT)/.test(String(error.code))

type Callback = (error?: Error) => void

/**
 * A connection to the first host of the URL that suits, by whichever encryption the URL allows, in a session that is set
 * as this service needs it.
 *
 * `Pg.Client` knows one host and one way; where that fails it is turned to the next, before anybody has it.
 */
export class ServiceClient extends PreparingClient {
  readonly #options: ConnectionOptions
  /** When it was made, by `performance.now()`. */
  readonly born = performance.now()
  /** Who the server takes us for; known when connected. */
  role: string | undefined
  /** Whether something that is no PostgreSQL server stands between; known when connected. */
  pooled = false
  #boundToChannel = false

  constructor({ service }: { readonly service: ConnectionOptions }) {
    const { channelBinding, database, tls, user } = service.target
    super({
      user,
      database,
      password: passwordOf(service.target),
      host: service.target.hosts[0].host,
      port: service.target.hosts[0].port,
      ssl: false,
      enableChannelBinding: channelBinding !== "disable",
      ...(tls.direct ? { sslnegotiation: "postgres" } : {})
    } as Pg.ClientConfig)
    this.#options = service
  }

  /** Nothing that the environment holds, and nothing that a pooler does not take. */
  getStartupConf() {
    const { applicationName, target } = this.#options
    return {
      user: target.user,
      database: target.database,
      application_name: target.applicationName ?? applicationName,
      ...(target.options === undefined ? {} : { options: target.options })
    }
  }

  /** `channel_binding=require`: a password goes only to who has proved to hold the certificate. */
  #demandBinding(connection: Pg.Connection) {
    if (this.#options.target.channelBinding !== "require") return
    const refuse = () =>
      connection.emit("error", new PostgresRefusal("the server does not do channel_binding, which the URL requires"))
    const handle = (event: string, pass: (message: any) => boolean) => {
      const [handler] = connection.listeners(event)
      connection.removeAllListeners(event).on(event, (message) => pass(message) ? handler!(message) : refuse())
    }
    handle("authenticationCleartextPassword", () => false)
    handle("authenticationMD5Password", () => false)
    handle("authenticationSASL", ({ mechanisms }: { readonly mechanisms: ReadonlyArray<string> }) =>
      this.#boundToChannel = mechanisms.includes("SCRAM-SHA-256-PLUS"))
  }

  /** Ends the connection that there is; nothing more is heard of it. */
  #drop() {
    const { connection } = this as unknown as Internals
    // an error that nobody hears would end the process
    connection.removeAllListeners().on("error", () => {})
    connection.stream.destroy()
  }

  /** Makes this client as new, on its way to the next server. */
  #turnTo({ encrypted, host }: Attempt) {
    const { keepAlive, keepAliveMillis, tls } = this.#options.target
    const ssl = encrypted ? tlsOptions(tls, host) : false
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
      if (error.code === "25006") this.#options.onReadOnly?.()
    })
    this.#boundToChannel = false
  }

  /** Tries one way, and says who is there. */
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
      end(Object.assign(new Error(`no answer from ${host}:${port} within ${Math.round(millis)} ms`), { code: "ETIMEDOUT" }))
    }, millis)
    try {
      this.#turnTo(attempt)
    } catch (error) {
      return end(error as Error)
    }
    super.connect((error: Error | null) => {
      if (error !== null && error !== undefined) {
        const refused = error.message === withoutTls && !encryptions[this.#options.target.tls.mode].includes(false)
        return end(refused ? new PostgresRefusal("the server does not do TLS, which sslmode asks for") : error)
      }
      if (this.#options.target.channelBinding === "require" && !this.#boundToChannel) {
        return end(new PostgresRefusal("the server asked for no password, and channel_binding=require cannot be kept"))
      }
      super.query(PostgresSession.opening(this.#options.target.options), (error: Error | null, results: unknown) => {
        if (error !== null) return end(error)
        const [facts] = (results as ReadonlyArray<Pg.QueryResult<PostgresSession.Facts>>).at(-1)!.rows
        end(undefined, facts)
      })
    })
    this.#demandBinding(self.connection)
  }

  override connect(): Promise<this>
  override connect(callback: Callback): void
  override connect(callback?: Callback): Promise<this> | void {
    if (callback === undefined) {
      return new Promise((resolve, reject) =>
        this.connect((error) => error === undefined ? resolve(this) : reject(error))
      )
    }
    const { connectTimeoutMillis, target } = this.#options
    const attempts = attemptsOf(target)
    const until = performance.now() + connectTimeoutMillis
    const failures: Array<string> = []
    // while it is not connected, its errors are those of the attempts
    const deaf = () => {}
    this.on("error", deaf)
    const end = (error?: Error) => {
      this.off("error", deaf)
      if (error !== undefined) this.#drop()
      callback(error)
    }
    const next = (index: number): void => {
      const attempt = attempts[index]!
      // the hosts of this round share the time; whoever does not answer is not asked in another way
      const hosts = attempts.slice(index).filter((_) => _.encrypted === attempt.encrypted && _.wants === attempt.wants)
      const millis = Math.min(target.connectTimeoutMillis ?? Infinity, (until - performance.now()) / hosts.length)
      this.#try(attempt, millis, (error, facts) => {
        if (error === undefined && suits(attempt.wants, facts!)) {
          const self = this as unknown as Internals
          this.role = facts!.role
          this.pooled = self.processID !== facts!.pid
          // by which statements are cancelled
          self.processID = facts!.pid
          return end()
        }
        const { host, port } = attempt.host
        const failure = error ?? unsuited(attempt.wants)
        const said = `${host}:${port} ${PostgresFault.explain(failure)}`
        if (!failures.includes(said)) failures.push(said)
        const following = this.#following(attempts, index, error)
        if (following !== undefined && performance.now() < until) return next(following)
        end(target.hosts.length === 1 ? failure : summary(failures, failure))
      })
    }
    next(0)
  }

  /** Where to go on after an error, or after a server that is not the one wanted; nowhere when it is final. */
  #following(attempts: ReadonlyArray<Attempt>, index: number, error: Error | undefined): number | undefined {
    const { host, wants } = attempts[index]!
    const after = (same: boolean) => {
      const found = attempts.findIndex((other, i) => i > index && (same || other.host !== host || other.wants !== wants))
      return found === -1 ? undefined : found
    }
    if (error === undefined) return after(false)
    if (error instanceof PostgresRefusal) return undefined
    const state = PostgresFault.stateOf(error)
    // a rule of the server may be for connections of the other kind
    if (state === "28000") return attempts[index + 1]?.host === host ? index + 1 : undefined
    // nobody there, or a server that starts or stops; to others a wrong password would be as wrong
    return state === undefined
      ? after(!isNowhere(error))
      : /^(08|57P)/.test(state)
      ? after(false)
      : undefined
  }
}

const unsuited = (wants: WantedSession) => {
  const asked = `and target_session_attrs=${wants} is asked for`
  return wants === "read-write" || wants === "primary"
    ? new PostgresReadOnly(`is ${wants === "primary" ? "a standby" : "read-only"}, ${asked}`)
    : new Error(`is ${wants === "standby" ? "no standby" : "not read-only"}, ${asked}`)
}

/** What all hosts have said, with the code of the last. */
const summary = (failures: ReadonlyArray<string>, last: Error) =>
  Object.assign(
    last instanceof PostgresRefusal ? new PostgresRefusal(failures.join("; ")) : new Error(failures.join("; ")),
    "code" in last ? { code: last.code } : {}
  )
