import { Effect } from "effect"
import { Attempt } from "../../../../src/infra/kafka/KafkaAttempt.js"
import { patch } from "../../../../src/infra/kafka/patches/ProduceRequests.js"
import { contract } from "./Library.js"
import * as TwoBrokers from "./TwoBrokers.js"

contract(
  "one broker fails: another broker gets the same records again, under a new sequence number",
  patch,
  {
    stock: { requests: ["0: to 1", "1: to 1"], written: [] as ReadonlyArray<unknown> },
    patched: { requests: ["0: to 1"], written: ["to 1"] }
  },
  async (load) => {
    const { requests, send } = await TwoBrokers.make(load)
    const attempt = new Attempt(TwoBrokers.records[0]!, () => true)
    await send(attempt, 1).catch(() => {})
    const { written } = await Effect.runPromise(attempt.result)
    return { requests: requests[1]!, written: written.flatMap(({ records }) => records.map(({ value }) => value)) }
  }
)
