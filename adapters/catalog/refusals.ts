/**
 * What the store refuses because of what it was asked, field by field, so that whoever answers a caller
 * tells it from a fault of our own: a plain TypeError is one. What is gone is `GoneError`'s.
 */

/** A field cannot be what it is. */
export class InvalidFieldError extends TypeError {
  override readonly name = "InvalidFieldError";
  constructor(readonly field: string, message: string) {
    super(message);
  }
}

/** A field names what is not there, or cannot be had as things stand. */
export class FieldRangeError extends RangeError {
  override readonly name = "FieldRangeError";
  constructor(readonly field: string, message: string) {
    super(message);
  }
}

/** A field's value is taken. */
export class ConflictError extends RangeError {
  override readonly name = "ConflictError";
  constructor(readonly field: string, message: string) {
    super(message);
  }
}
