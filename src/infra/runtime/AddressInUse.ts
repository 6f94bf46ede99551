import { Schema } from "effect"

/** Another program listens at the address. Waiting does not help: stop that program, or choose another address. */
export class AddressInUse extends Schema.TaggedError<AddressInUse>()("AddressInUse", {
  /** `host:port`. */
  address: Schema.String,
  /** The environment variable that sets the address. */
  variable: Schema.String
}) {
  override get message() {
    return `${this.address} is in use by another program: stop that program, or set ${this.variable} to another host:port`
  }
}
