import { FileSystem, Path } from "@effect/platform"
import { Effect } from "effect"

/**
 * `meta.properties` names the cluster, the node and the folder. Without it Kafka does not know the data beside it for its
 * own, and another one would do no better: so it is kept a second time, outside of the data.
 */
const places = (folder: string) =>
  Effect.map(Path.Path, (path) => ({
    used: path.join(folder, "data", "meta.properties"),
    kept: path.join(folder, "meta.properties"),
    records: path.join(folder, "data", "__cluster_metadata-0")
  }))

/** A file that a power failure has left empty or cut off names no cluster, or no node. */
const isWhole = Effect.fnUntraced(function*(file: string) {
  const fs = yield* FileSystem.FileSystem
  const text = yield* Effect.orElseSucceed(fs.readFileString(file), () => "")
  return /^cluster\.id=.+$/m.test(text) && /^node\.id=\d+$/m.test(text)
})

/**
 * Whether the folder of this part holds a cluster. A file that is damaged is replaced by the second copy; where there is
 * nothing that it could belong to, because formatting was interrupted, it is removed.
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

/** Keeps what a broker has started with. */
export const save = Effect.fnUntraced(function*(folder: string) {
  const fs = yield* FileSystem.FileSystem
  const { kept, used } = yield* places(folder)
  yield* fs.copyFile(used, `${kept}.new`)
  yield* fs.rename(`${kept}.new`, kept)
})
