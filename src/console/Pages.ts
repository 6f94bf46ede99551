import { HttpServerRequest, HttpServerResponse } from "@effect/platform"
import { Effect } from "effect"
import { createHash } from "node:crypto"
import { existsSync, readdirSync, readFileSync } from "node:fs"
import { extname, join } from "node:path"
import { promisify } from "node:util"
import * as Zlib from "node:zlib"

/**
 * Headers of the pages. The policy lets a page load from this server only, and no inline script: a record with markup in it has no
 * way to run, even where a page forgot to escape it.
 */
export const headers = {
  "content-security-policy":
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'",
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY",
  "referrer-policy": "no-referrer",
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
  "permissions-policy": "camera=(), geolocation=(), microphone=()"
} as const

const types: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".svg": "image/svg+xml",
  ".png": "image/png",
  ".ico": "image/x-icon",
  ".woff2": "font/woff2",
  ".json": "application/json",
  ".map": "application/json",
  ".txt": "text/plain; charset=utf-8"
}

/** Types that are compressed already. */
const dense = new Set([".png", ".woff2", ".ico"])

const encodings = ["br", "gzip"] as const
type Encoding = (typeof encodings)[number]

const compress = {
  br: (bytes: Buffer) =>
    promisify(Zlib.brotliCompress)(bytes, { params: { [Zlib.constants.BROTLI_PARAM_QUALITY]: 9 } }),
  gzip: promisify<Buffer, Buffer>(Zlib.gzip)
} as const
const suffix = { br: ".br", gzip: ".gz" } as const

interface File {
  readonly type: string
  readonly bytes: Buffer
  readonly etag: string
  /** A name with a hash of the content never gets another content. */
  readonly lasting: boolean
  readonly isDense: boolean
  /** The compressed forms: those of the build, and those that a request has made. */
  readonly compressed: Map<Encoding, Promise<Buffer>>
}

const load = (folder: string, path: string): File => {
  const bytes = readFileSync(join(folder, path))
  const built = encodings.filter((encoding) => existsSync(join(folder, path + suffix[encoding])))
  return {
    type: types[extname(path)]!,
    bytes,
    etag: createHash("sha256").update(bytes).digest("base64url").slice(0, 22),
    lasting: path.startsWith("assets/") && /-[\w-]{8,}\.[a-z0-9.]+$/i.test(path),
    isDense: dense.has(extname(path)),
    compressed: new Map(
      built.map((encoding) => [encoding, Promise.resolve(readFileSync(join(folder, path + suffix[encoding])))])
    )
  }
}

/** The files by their path on the server. A request finds a file of this list or none: no path leads out of the folder. */
const filesOf = (folder: string): ReadonlyMap<string, File> => {
  if (!existsSync(join(folder, "index.html"))) return new Map()
  const assets = existsSync(join(folder, "assets")) ? readdirSync(join(folder, "assets")) : []
  const paths = ["index.html", ...assets.map((name) => `assets/${name}`)].filter((path) => extname(path) in types)
  return new Map(paths.map((path) => [path === "index.html" ? "/" : `/${path}`, load(folder, path)]))
}

const chosen = (accepted: string | undefined): Encoding | undefined =>
  encodings.find((encoding) => new RegExp(`(^|,)\\s*${encoding}\\s*(;\\s*q=(1|0?\\.\\d*[1-9]\\d*)[0.]*\\s*)?(,|$)`).test(accepted ?? ""))

/** A short text of the server, with the headers of the pages. */
export const text = (body: string, status: number) =>
  HttpServerResponse.text(`${body}\n`, { status, headers: { ...headers, "cache-control": "no-store" } })

/**
 * The pages of a folder: `index.html` at `/`, and `assets/`. The files are read once. Each is compressed once for each encoding,
 * unless the build has put `<file>.br` or `<file>.gz` beside it.
 */
export const make = (folder: string) =>
  Effect.sync(() => {
    const files = filesOf(folder)

    const encoded = (file: File, encoding: Encoding) => {
      const known = file.compressed.get(encoding)
      if (known !== undefined) return known
      const made = compress[encoding](file.bytes)
      file.compressed.set(encoding, made)
      return made
    }

    const answer = (file: File) =>
      Effect.gen(function*() {
        const request = yield* HttpServerRequest.HttpServerRequest
        const encoding = file.isDense ? undefined : chosen(request.headers["accept-encoding"])
        const etag = `"${file.etag}${encoding === undefined ? "" : `-${encoding}`}"`
        const common = {
          ...headers,
          etag,
          vary: "accept-encoding",
          "cache-control": file.lasting ? "public, max-age=31536000, immutable" : "no-cache"
        }
        const given = (request.headers["if-none-match"] ?? "").split(",").map((one) => one.trim().replace(/^W\//, ""))
        if (given.includes(etag)) return HttpServerResponse.empty({ status: 304, headers: common })
        const body = encoding === undefined ? file.bytes : yield* Effect.promise(() => encoded(file, encoding))
        return HttpServerResponse.uint8Array(body, {
          contentType: file.type,
          headers: encoding === undefined ? common : { ...common, "content-encoding": encoding }
        })
      })

    /** The answer for a path; undefined where the pages have none. */
    return (path: string) => {
      const file = files.get(path)
      return file !== undefined
        ? answer(file)
        : path === "/" && files.size === 0
        ? Effect.succeed(text("the pages of the console are not built here: npm run build makes them", 404))
        : undefined
    }
  })

export type Pages = Effect.Effect.Success<ReturnType<typeof make>>
