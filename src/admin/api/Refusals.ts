import { HttpApiSchema } from "@effect/platform"
import { Schema } from "effect"

/** A request that cannot be answered as it is; the message says what to change. */
export class BadRequest extends Schema.TaggedError<BadRequest>()(
  "BadRequest",
  { message: Schema.String },
  HttpApiSchema.annotations({ status: 400 })
) {}

/** The change has a consequence that the request must accept apart. */
export class NeedsConsent extends Schema.TaggedError<NeedsConsent>()(
  "NeedsConsent",
  { message: Schema.String, field: Schema.String },
  HttpApiSchema.annotations({ status: 409 })
) {}

/** The state of the payment excludes the change. */
export class Conflict extends Schema.TaggedError<Conflict>()(
  "Conflict",
  { message: Schema.String },
  HttpApiSchema.annotations({ status: 409 })
) {}

/** There is no such order, letter or topic. */
export class NotFound extends Schema.TaggedError<NotFound>()(
  "NotFound",
  { message: Schema.String },
  HttpApiSchema.annotations({ status: 404 })
) {}

/** A server does not answer, or refuses. What was done so far stays done; a later request goes on with the rest. */
export class Unavailable extends Schema.TaggedError<Unavailable>()(
  "Unavailable",
  { message: Schema.String },
  HttpApiSchema.annotations({ status: 503 })
) {}

/** The token of the request may not do this. */
export class MissingScope extends Schema.TaggedError<MissingScope>()(
  "MissingScope",
  { message: Schema.String },
  HttpApiSchema.annotations({ status: 403 })
) {}

/** The request comes from another site, or misses the header that a form cannot send. */
export class ForeignRequest extends Schema.TaggedError<ForeignRequest>()(
  "ForeignRequest",
  { message: Schema.String },
  HttpApiSchema.annotations({ status: 403 })
) {}

/** This deployment does not offer it; the message says why. */
export class NotHere extends Schema.TaggedError<NotHere>()(
  "NotHere",
  { message: Schema.String },
  HttpApiSchema.annotations({ status: 403 })
) {}

/** Too many requests, sign-in attempts or open streams. */
export class TooMany extends Schema.TaggedError<TooMany>()(
  "TooMany",
  { message: Schema.String, retry_after_seconds: Schema.Int },
  HttpApiSchema.annotations({ status: 429 })
) {}
