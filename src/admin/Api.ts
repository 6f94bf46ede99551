import { HttpApi, OpenApi } from "@effect/platform"
import * as DeadLetters from "./api/DeadLetters.js"
import * as Doctor from "./api/Doctor.js"
import * as Operations from "./api/Operations.js"
import * as Orders from "./api/Orders.js"
import * as Outbox from "./api/Outbox.js"
import * as Saga from "./api/Saga.js"
import * as Session from "./api/Session.js"
import * as Topics from "./api/Topics.js"

/**
 * The operations API: looks and repairs, as the command line, and what the console shows. Ids are text, because JSON numbers lose
 * digits.
 */
export class Api extends HttpApi.make("payments-operations")
  .add(Session.group)
  .add(Saga.group)
  .add(Orders.group)
  .add(Outbox.group)
  .add(DeadLetters.group)
  .add(Topics.group)
  .add(Operations.group)
  .add(Doctor.group)
  .annotate(OpenApi.Title, "Payments operations")
{}
