import { Effect } from "effect"
import { strict as assert } from "node:assert"
import { execFileSync } from "node:child_process"
import { appendFileSync, chmodSync, mkdirSync, rmSync, statSync, writeFileSync } from "node:fs"
import * as Pg from "pg"
import { eventually } from "../../harness/Eventually.js"
import * as Restartable from "../../harness/Restartable.js"
import { freshFolder } from "../../harness/World.js"

/** Runs statements in one session of the administrator. */
export const session = <A>(url: string, use: (client: Pg.Client) => Promise<A>) =>
  Effect.acquireUseRelease(
    Effect.promise(async () => {
      const client = new Pg.Client({ connectionString: url }).on("error", () => {})
      await client.connect()
      return client
    }),
    (client) => Effect.promise(() => use(client)),
    (client) => Effect.promise(() => client.end())
  )

/** Runs one statement as the administrator, and returns its rows. */
export const statement = (url: string, text: string) =>
  session(url, async (client) => (await client.query(text)).rows as ReadonlyArray<Record<string, unknown>>)

/** Copies the data of a running server to another folder, as pg_basebackup does. */
const backUp = (from: Restartable.Restartable, to: string, name: string, through: string) =>
  session(from.url, async (client) => {
    const { port } = new URL(through)
    await client.query("SELECT pg_backup_start($1, true)", [name])
    mkdirSync(to, { recursive: true })
    // files that vanish or grow meanwhile are replayed from the log
    try {
      execFileSync("cp", ["-a", `${from.data}/.`, to], { stdio: "ignore" })
    } catch {
      // cp reports the files that vanished
    }
    const { rows: [label] } = await client.query("SELECT labelfile FROM pg_backup_stop(true)")
    rmSync(`${to}/postmaster.pid`, { force: true })
    writeFileSync(`${to}/backup_label`, label.labelfile)
    writeFileSync(`${to}/standby.signal`, "")
    appendFileSync(
      `${to}/postgresql.auto.conf`,
      `primary_conninfo = 'host=127.0.0.1 port=${port} user=payments password=payments application_name=${name}'\n`
    )
    const { gid, uid } = statSync(from.data)
    chmodSync(to, 0o700)
    execFileSync("chown", ["-R", `${uid}:${gid}`, to])
  })

/** A streaming standby of a server, for the life of the scope. Ends when it streams. */
export const make = Effect.fnUntraced(function*(
  primary: Restartable.Restartable,
  { name, port, through = primary.url }: {
    readonly name: string
    readonly port: number
    /** URL by which it reaches the primary. */
    readonly through?: string
  }
) {
  const folder = yield* freshFolder
  yield* backUp(primary, `${folder}/postgres/data`, name, through)
  const standby = yield* Restartable.make("postgres", { folder, port })
  yield* statement(
    primary.url,
    `SELECT FROM pg_stat_replication WHERE application_name = '${name}' AND state = 'streaming'`
  )
    .pipe(
      Effect.tap((rows) => assert.equal(rows.length, 1, `${name} does not stream`)),
      eventually("30 seconds")
    )
  return standby
})

/** Commits wait for this standby from now on; with no name they wait for none. */
export const waitFor = (primary: Restartable.Restartable, name: string) =>
  session(primary.url, async (client) => {
    await client.query(`ALTER SYSTEM SET synchronous_standby_names = '${name}'`)
    await client.query("SELECT pg_reload_conf()")
  }).pipe(
    Effect.zipRight(
      statement(primary.url, `SELECT FROM pg_stat_replication WHERE sync_state = '${name === "" ? "async" : "sync"}'`)
        .pipe(
          Effect.tap((rows) => assert.equal(rows.length, 1, "not in force yet")),
          eventually("10 seconds")
        )
    )
  )

/** Commits of this server wait for no standby from now on. */
export const alone = (server: Restartable.Restartable) =>
  session(server.url, async (client) => {
    await client.query("ALTER SYSTEM RESET synchronous_standby_names")
    await client.query("SELECT pg_reload_conf()")
  })

/** Makes a standby the primary. It has no standby of its own, and waits for none. */
export const promote = (standby: Restartable.Restartable) =>
  Effect.zipRight(statement(standby.url, "SELECT pg_promote(true, 30)"), alone(standby))

/** A standby with `hot_standby_feedback` says what its readers need, and is gone. Its slot keeps that. */
export const gone = Effect.fnUntraced(function*(url: string) {
  const [now] = yield* statement(
    url,
    `SELECT pg_create_physical_replication_slot('gone'), pg_current_wal_lsn()::text AS place,
            pg_current_xact_id()::text AS xid`
  )
  const client = yield* Effect.acquireRelease(
    Effect.promise(async () => {
      const client = new Pg.Client({ connectionString: url, replication: "true" } as Pg.ClientConfig).on(
        "error",
        () => {}
      )
      await client.connect()
      return client as unknown as Pg.Client & {
        readonly connection: Pg.Connection & {
          readonly query: (text: string) => void
          readonly sendCopyFromChunk: (chunk: Buffer) => void
          readonly stream: { readonly destroy: () => void }
        }
      }
    }),
    ({ connection }) => Effect.sync(() => connection.stream.destroy())
  )
  const { connection } = client
  yield* Effect.async<void>((resume) => {
    connection.once("replicationStart", () => resume(Effect.void))
    connection.query(`START_REPLICATION SLOT gone PHYSICAL ${String(now!["place"])}`)
  })
  // the message "Hot standby feedback" of the protocol
  const feedback = Buffer.alloc(25)
  feedback.write("h")
  feedback.writeUInt32BE(Number(now!["xid"]), 9)
  connection.sendCopyFromChunk(feedback)
  yield* Effect.tap(
    statement(url, "SELECT FROM pg_replication_slots WHERE xmin IS NOT NULL"),
    (rows) => assert.equal(rows.length, 1, "no xmin yet")
  ).pipe(eventually())
}, Effect.scoped)
