/** Arguments of the functions, methods, filters and tests that are written here, by their names. */

import { isNumber, type Named, orElse, truth, typeName, type Value } from "./python/values.ts";

/** The arguments of one call. */
export class Bound {
  readonly #values: ReadonlyMap<string, Value>;

  /**
   * @param parameters names in order
   * @throws {TypeError} for an argument too many, or one of another name
   */
  constructor(
    readonly name: string,
    parameters: readonly string[],
    args: readonly Value[],
    named: Named,
  ) {
    if (args.length > parameters.length) {
      throw new TypeError(`${name}() takes at most ${parameters.length} arguments`);
    }
    const values = new Map(args.map((value, i) => [parameters[i] ?? "", value] as const));
    for (const [key, value] of named) {
      if (!parameters.includes(key) || values.has(key)) {
        throw new TypeError(`${name}() got an unexpected keyword argument '${key}'`);
      }
      values.set(key, value);
    }
    this.#values = values;
  }

  optional(parameter: string): Value | undefined {
    return this.#values.get(parameter);
  }

  given(parameter: string, otherwise: Value): Value {
    return orElse(this.#values.get(parameter), otherwise);
  }

  /** False where it was not given. */
  flag(parameter: string): boolean {
    return truth(this.given(parameter, false));
  }

  /** @throws {TypeError} where it was not given */
  get(parameter: string): Value {
    const value = this.#values.get(parameter);
    if (value !== undefined) return value;
    throw new TypeError(`${this.name}() missing 1 required argument: '${parameter}'`);
  }

  text(parameter: string, otherwise?: string): string {
    const value = this.#values.get(parameter) ?? otherwise;
    if (typeof value === "string") return value;
    throw this.#fault(parameter, value, "a str");
  }

  /** None counts as not given. */
  optionalText(parameter: string): string | undefined {
    const value = this.#values.get(parameter) ?? undefined;
    if (value === undefined || typeof value === "string") return value;
    throw this.#fault(parameter, value, "a str or None");
  }

  count(parameter: string, otherwise?: number): number {
    return this.optionalCount(parameter) ?? otherwise ?? Number(this.get(parameter));
  }

  optionalCount(parameter: string): number | undefined {
    const value = this.#values.get(parameter) ?? undefined;
    if (value === undefined) return undefined;
    if (isNumber(value)) return Number(value);
    throw this.#fault(parameter, value, "an int");
  }

  #fault(parameter: string, value: Value | undefined, wanted: string): TypeError {
    return new TypeError(
      `${this.name}() argument '${parameter}' must be ${wanted}, ` +
        `not ${value === undefined ? "missing" : typeName(value)}`,
    );
  }
}

/** Something that is written here: parameters after the value it is of, and what it does. */
export interface Built<T> {
  readonly parameters: readonly string[];
  readonly run: (of: T, args: Bound) => Value;
}

/** A table's entry, as `[name, built]`. */
export function built<T>(
  name: string,
  parameters: string,
  run: (of: T, args: Bound) => Value,
): readonly [string, Built<T>] {
  return [name, { parameters: parameters.split(" ").filter((one) => one !== ""), run }];
}
