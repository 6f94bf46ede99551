import { FileSystem, Path } from "@effect/platform"
import { Effect } from "effect"

/**
 * `meta.properties` identifies the cluster, the node and the folder. Without it Kafka rejects its own data, and a new file would
 * not match. So the local stack keeps a copy outside of the data.
 */
const places = (folder: string) =>
  Effect.map(Path.Path, (path) => ({
    used: path.join(folder, "data", "meta.properties"),
    kept: path.join(folder, "meta.properties"),
    records: path.join(folder, "data", "__cluster_metadata-0")
  }))

/** True when the file names cluster and node; a power failure may have emptied or cut it. */
const isWhole = Effect.fnUntraced(function*(file: string) {
  const fs = yield* FileSystem.FileSystem
  const text = yield* Effect.orElseSucceed(fs.readFileString(file), () => "")
  return /^cluster\.id=.+$/m.test(text) && /^node\.id=\d+$/m.test(text)
})

/**
 * True when the folder of this part contains a formatted cluster. Replaces a damaged file by the copy. Removes a damaged file
 * without data, which an interrupted formatting left.
 */
export const isFormatted = Effect.fnUntraced(function*(folder: string) {
  const fs = yield* FileSystem.FileSystem
  const { kept, records, used } = yield* places(folder)
  if (yield* isWhole(used)) return true
  if (!(yield* fs.exists(records))) {
    yield* fs.remove(used, { force: true })
    return false
  }
  if (yield* isWhole(kept)) {
    yield* fs.copyFile(kept, `${used}.new`)
    yield* fs.rename(`${used}.new`, used)
  }
  return true
})

/** Copies the file of a broker that has started. */
export const save = Effect.fnUntraced(function*(folder: string) {
  const fs = yield* FileSystem.FileSystem
  const { kept, used } = yield* places(folder)
  yield* fs.copyFile(used, `${kept}.new`)
  yield* fs.rename(`${kept}.new`, kept)
})
