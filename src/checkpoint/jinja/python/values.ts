/**
 * Python's values as JavaScript's: an int is a bigint and a float a number, so that 1 and 1.0 stay
 * two things; a list is an array, a dict a Map. Text is counted in code points.
 */

export type Value =
  | Undefined
  | null
  | boolean
  | bigint
  | number
  | string
  | Value[]
  | Dict
  | Namespace
  | Callable;

export type Dict = Map<Value, Value>;

const TYPE_NAMES: ReadonlyMap<string, string> = new Map([
  ["boolean", "bool"],
  ["bigint", "int"],
  ["number", "float"],
  ["string", "str"],
]);

/** Names to values, in order of definition. */
export type Named = ReadonlyMap<string, Value>;

/** A tuple: a list to everything but to those who print it. */
export class Tuple extends Array<Value> {
  static override get [Symbol.species](): ArrayConstructor {
    return Array;
  }
}

/** What `range`, `dict.items()` and their like give: a list that prints in its own way. */
export class View extends Array<Value> {
  shown: (items: string) => string = (items) => items;

  static override get [Symbol.species](): ArrayConstructor {
    return Array;
  }
}

/** Jinja's `namespace`: what a loop may assign to. */
export class Namespace {
  readonly values = new Map<string, Value>();
}

/** A function, a method or a macro. */
export class Callable {
  constructor(
    readonly name: string,
    readonly call: (args: readonly Value[], named: Named) => Value,
  ) {}
}

/** A value that is not there. It prints as nothing and fails where it is used. */
export class Undefined {
  /** @param hint says what is not there */
  constructor(readonly hint: string) {}
}

/** @throws {TypeError} where a template computes with what is not there */
export function defined(value: Value): Exclude<Value, Undefined> {
  if (value instanceof Undefined) throw new TypeError(value.hint);
  return value;
}

/** The value where there is one: None is one, so `??` does not tell. */
export function orElse(value: Value | undefined, otherwise: Value): Value {
  return value === undefined ? otherwise : value;
}

/** Python's `type(value).__name__`. */
export function typeName(value: Value): string {
  if (value === null) return "NoneType";
  if (value instanceof Undefined) return "Undefined";
  if (value instanceof Map) return "dict";
  if (value instanceof Tuple) return "tuple";
  if (Array.isArray(value)) return "list";
  if (value instanceof Namespace) return "Namespace";
  if (value instanceof Callable) return "function";
  return TYPE_NAMES.get(typeof value) ?? typeof value;
}

/** Python's `bool(value)`. */
export function truth(value: Value): boolean {
  if (value instanceof Undefined) return false;
  if (Array.isArray(value)) return value.length > 0;
  if (value instanceof Map) return value.size > 0;
  return value instanceof Namespace || value instanceof Callable || Boolean(value);
}

export function isNumber(value: Value): value is boolean | bigint | number {
  return typeof value === "boolean" || typeof value === "bigint" || typeof value === "number";
}

/** A bool counts as the int it is in Python. */
export function plainNumber(value: boolean | bigint | number): bigint | number {
  return typeof value === "boolean" ? BigInt(value) : value;
}

/** Python's `==`. */
export function equal(a: Value, b: Value): boolean {
  if (isNumber(a) && isNumber(b)) {
    // A bigint and a number are compared by value.
    // deno-lint-ignore eqeqeq
    return plainNumber(a) == plainNumber(b);
  }
  if (a instanceof Undefined || b instanceof Undefined) {
    return a instanceof Undefined && b instanceof Undefined;
  }
  if (Array.isArray(a) && Array.isArray(b)) {
    return a instanceof Tuple === b instanceof Tuple && a.length === b.length &&
      a.every((item, i) => equal(item, b[i] ?? null));
  }
  if (a instanceof Map && b instanceof Map) {
    return a.size === b.size &&
      [...a].every(([key, value]) => b.has(key) && equal(value, b.get(key) ?? null));
  }
  return a === b;
}

/** Below zero, zero or above, as Python orders two values. @throws {TypeError} where it does not */
export function order(a: Value, b: Value, operator = "<"): number {
  if (isNumber(a) && isNumber(b)) {
    const [left, right] = [plainNumber(a), plainNumber(b)];
    return left < right ? -1 : left > right ? 1 : 0;
  }
  if (typeof a === "string" && typeof b === "string") return orderTexts(a, b);
  if (Array.isArray(a) && Array.isArray(b) && a instanceof Tuple === b instanceof Tuple) {
    const at = a.findIndex((item, i) => i >= b.length || !equal(item, b[i] ?? null));
    if (at >= 0 && at < b.length) return order(a[at] ?? null, b[at] ?? null, operator);
    return a.length - b.length;
  }
  defined(a);
  defined(b);
  throw new TypeError(
    `'${operator}' not supported between instances of '${typeName(a)}' and '${typeName(b)}'`,
  );
}

/** By code points, where JavaScript orders by UTF-16 units. */
function orderTexts(a: string, b: string): number {
  if (a === b) return 0;
  const [left, right] = [[...a], [...b]];
  const at = left.findIndex((character, i) => character !== right[i]);
  if (at < 0) return -1;
  if (at >= right.length) return 1;
  return (left[at]?.codePointAt(0) ?? 0) - (right[at]?.codePointAt(0) ?? 0);
}

/** Python's `iter`: items of a list, keys of a dict, characters of a text. */
export function iterate(value: Value): readonly Value[] {
  if (value instanceof Undefined) return [];
  if (Array.isArray(value)) return value;
  if (value instanceof Map) return [...value.keys()];
  if (typeof value === "string") return [...value];
  throw new TypeError(`'${typeName(value)}' object is not iterable`);
}

/** Python's `len`. */
export function length(value: Value): number {
  if (value instanceof Map) return value.size;
  if (value === null || isNumber(value) || value instanceof Callable) {
    throw new TypeError(`object of type '${typeName(value)}' has no len()`);
  }
  return iterate(value).length;
}

/** Python's `item in container`. */
export function contains(container: Value, item: Value): boolean {
  if (typeof container === "string") {
    if (typeof item === "string") return container.includes(item);
    throw new TypeError(
      `'in <string>' requires string as left operand, not ${typeName(defined(item))}`,
    );
  }
  if (container instanceof Map && !Array.isArray(item)) return container.has(item);
  if (container === null || isNumber(container)) {
    throw new TypeError(`argument of type '${typeName(container)}' is not iterable`);
  }
  return iterate(container).some((one) => equal(one, item));
}

export function tuple(...items: readonly Value[]): Tuple {
  return Tuple.from(items) as Tuple;
}

/** A list that prints as `shown` has it. */
export function view(items: readonly Value[], shown: View["shown"]): View {
  const made = View.from(items) as View;
  made.shown = shown;
  return made;
}

/**
 * JavaScript's values, as they come from JSON, as Python's. A whole number is an int: JSON.parse has
 * lost by then whether it was written as 1 or 1.0.
 */
export function fromJavaScript(value: unknown): Value {
  switch (typeof value) {
    case "number":
      return Number.isSafeInteger(value) ? BigInt(value) : value;
    case "bigint":
    case "string":
    case "boolean":
      return value;
    case "object":
      if (value === null || value instanceof Callable) return value;
      if (Array.isArray(value)) return value.map(fromJavaScript);
      return new Map(
        Object.entries(value).filter(([, field]) => field !== undefined)
          .map(([key, field]) => [key, fromJavaScript(field)]),
      );
    case "undefined":
      return null;
    default:
      throw new TypeError(`Cannot hand a ${typeof value} to a template`);
  }
}
