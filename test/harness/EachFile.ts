import { it, makeMethods } from "@effect/vitest"

// a worker runs this before each of its files

// `layer` of @effect/vitest changes `it` for all later files of its worker: they would run in that layer
makeMethods(it)

/** Ends a worker when the test runner has died. Otherwise the worker fills its memory with reports that it cannot send. */
const endOrphan = () => process.kill(process.pid, "SIGKILL")
if (!process.listeners("disconnect").some(({ name }) => name === endOrphan.name)) process.once("disconnect", endOrphan)
