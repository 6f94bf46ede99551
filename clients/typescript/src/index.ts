export type {
  CallOptions,
  ClientOptions,
  ClientTls,
  Payment,
  PaymentsClient,
  PendingEvent,
  Status,
  WatchOptions
} from "./PaymentsClient.js"
export { connect } from "./PaymentsClient.js"
export type { Code } from "./PaymentsError.js"
export { PaymentsError } from "./PaymentsError.js"
export { TokenUnprotected, TokenUnreadable } from "./Token.js"
