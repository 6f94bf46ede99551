import { Schema } from "effect"

/** Another program listens at the address. Waiting does not help: stop that program, or choose another address. */
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
