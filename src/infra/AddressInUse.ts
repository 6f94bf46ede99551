import { Schema } from "effect"

/** Another program listens there. Waiting does not help; stopping the other one, or moving this one, does. */
export class AddressInUse extends Schema.TaggedError<AddressInUse>()("AddressInUse", {
  /** `host:port`. */
  address: Schema.String,
  /** The environment variable that names another place. */
  variable: Schema.String
}) {
  override get message() {
    return `${this.address} is taken by another program: stop that one, or let ${this.variable} name another host:port`
  }
}
