/** The refusal of a schema: where in it something is wrong, and what. */

/** A schema that a grammar cannot hold. */
export class SchemaError extends TypeError {
  override readonly name = "SchemaError";
  constructor(
    /** JSON pointer, as a URI fragment without percent signs: `#/properties/a/pattern`. */
    readonly pointer: string,
    readonly reason: string,
  ) {
    super(`Cannot use the JSON schema: ${pointer} ${reason}`);
  }
}

/** @throws {SchemaError} always. */
export function refuse(pointer: string, reason: string): never {
  throw new SchemaError(pointer, reason);
}
