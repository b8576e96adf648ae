/**
 * What is refused because of what was asked, field by field, so that whoever answers a caller tells it
 * from a fault of our own: a plain TypeError or RangeError is one.
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
  override readonly name: string = "FieldError";
  constructor(
    /** As the request's sender spells it: `response_format.json_schema.schema`. */
    readonly field: string,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** A field of the request that is out of its range: HTTP 400 naming it. */
export class FieldRangeError extends RangeError {
  override readonly name: string = "FieldRangeError";
  /** @param field as the request's sender spells it: `stop_token_ids` */
  constructor(readonly field: string, message: string, options?: ErrorOptions) {
    super(message, options);
  }
}

/** Whether the request is at fault, by a field that the error names. */
export function isFieldError(error: unknown): error is FieldError | FieldRangeError {
  return error instanceof FieldError || error instanceof FieldRangeError;
}

/**
 * What a reader makes of something that came from outside: its complaints are about the field.
 * @throws {FieldError | FieldRangeError} for the reader's TypeErrors and RangeErrors
 */
export function readField<T>(field: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (isFieldError(error)) throw error;
    if (error instanceof TypeError) throw new FieldError(field, error.message, { cause: error });
    if (error instanceof RangeError) {
      throw new FieldRangeError(field, error.message, { cause: error });
    }
    throw error;
  }
}

/** The prompt does not fit: HTTP 400 `context_length_exceeded`. */
export class ContextLengthError extends RangeError {
  override readonly name = "ContextLengthError";
}

/**
 * The device that computes can no longer be used: HTTP 503, and the process ends with code 1, to be
 * started again.
 */
export class DeviceFailedError extends Error {
  override readonly name = "DeviceFailedError";
}

/** A field's value is taken: HTTP 409 naming it. */
export class ConflictError extends RangeError {
  override readonly name = "ConflictError";
  constructor(readonly field: string, message: string) {
    super(message);
  }
}
