/**
 * What is refused because of what was asked, field by field, so that whoever answers a caller tells it
 * from a fault of our own: a plain TypeError is one.
 */

/**
 * A queue that is full, or memory that no waiting will free: HTTP 429/503 with Retry-After.
 *
 * @example
 * ```ts
 * import { OverloadedError } from "@lembas/lembas";
 *
 * const error = new OverloadedError("Too many requests wait: 1024.", 5);
 * console.assert(error.retryAfterSeconds === 5 && error.scope === "server");
 * ```
 */
export class OverloadedError extends Error {
  override readonly name = "OverloadedError";
  constructor(
    message: string,
    readonly retryAfterSeconds: number,
    /** Whose limit it is: the server's, or the tenant's own. */
    readonly scope: "server" | "tenant" = "server",
  ) {
    super(message);
  }
}

/** A field of the request that cannot be had as it is: HTTP 400 naming it. */
export class FieldError extends TypeError {
  override readonly name = "FieldError";
  constructor(
    /** As the request's sender spells it: `response_format.json_schema.schema`. */
    readonly field: string,
    message: string,
  ) {
    super(message);
  }
}

/** A field of the request that is out of its range: HTTP 400 naming it. */
export class FieldRangeError extends RangeError {
  override readonly name = "FieldRangeError";
  /** @param field as the request's sender spells it: `stop_token_ids` */
  constructor(readonly field: string, message: string) {
    super(message);
  }
}

/** The prompt does not fit: HTTP 400 `context_length_exceeded`. */
export class ContextLengthError extends RangeError {
  override readonly name = "ContextLengthError";
}

/** A field's value is taken: HTTP 409 naming it. */
export class ConflictError extends RangeError {
  override readonly name = "ConflictError";
  constructor(readonly field: string, message: string) {
    super(message);
  }
}
