import * as Pg from "pg"

/** Private members of pg 8.23 that this room reads or sets. README.md beside this file says why. */
const ofClient = [
  "connection",
  "host",
  "port",
  "ssl",
  "sslNegotiation",
  "processID",
  "getStartupConf",
  "_connecting",
  "_connected",
  "_connectionError",
  "_ended",
  "_queryable",
  "_activeQuery"
]

/** Names of the expected private members that a client and the pool class of pg do not have. */
export const missing = (client: object, pool: object): ReadonlyArray<string> => [
  ...ofClient.filter((name) => !(name in client)).map((name) => `Client.${name}`),
  ..."_pulseQueue" in pool ? [] : ["Pool._pulseQueue"]
]

let checked = false

/** Throws when the installed pg lacks a private member that this room needs. Checks once a process. */
export const check = () => {
  if (checked) return
  const names = missing(new Pg.Client({}), Pg.Pool.prototype)
  if (names.length > 0) {
    throw new Error(`pg is not the version that this service is written for: no ${names.join(", ")}`)
  }
  checked = true
}
