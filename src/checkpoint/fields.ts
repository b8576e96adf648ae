/**
 * Typed reads from a parsed JSON object that somebody else wrote: each read checks the type and
 * names the file and the field where it is wrong. A null counts as absent.
 */

/** The fields of one JSON object. */
export class Fields {
  readonly #source: string;
  readonly #values: Readonly<Record<string, unknown>>;

  /**
   * @param source named in errors, e.g. "config.json"
   * @throws {TypeError} where `value` is no object
   */
  constructor(source: string, value: unknown) {
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
      throw new TypeError(`Cannot read ${source}: it is not a JSON object`);
    }
    this.#source = source;
    this.#values = value as Readonly<Record<string, unknown>>;
  }

  /** The fields whose names start with `prefix`, which their names here are without. */
  under(prefix: string): Fields {
    const inside = Object.entries(this.#values).filter(([name]) => name.startsWith(prefix));
    const values = inside.map(([name, value]) => [name.slice(prefix.length), value]);
    return new Fields(`${this.#source}: ${prefix}*`, Object.fromEntries(values));
  }

  names(): readonly string[] {
    return Object.keys(this.#values);
  }

  /** Whether the field is there, be it null. */
  has(name: string): boolean {
    return Object.hasOwn(this.#values, name);
  }

  optionalText(name: string): string | undefined {
    const value = this.#get(name);
    if (value === undefined || typeof value === "string") return value;
    throw this.#fault(name, value, "a string");
  }

  optionalFlag(name: string): boolean | undefined {
    const value = this.#get(name);
    if (value === undefined || typeof value === "boolean") return value;
    throw this.#fault(name, value, "true or false");
  }

  optionalNumber(name: string): number | undefined {
    const value = this.#get(name);
    if (value === undefined || (typeof value === "number" && Number.isFinite(value))) return value;
    throw this.#fault(name, value, "a number");
  }

  /** @throws {TypeError} where the field is absent or no number */
  number(name: string): number {
    return this.optionalNumber(name) ?? this.#missing(name);
  }

  optionalCount(name: string): number | undefined {
    const value = this.optionalNumber(name);
    if (value === undefined || (Number.isSafeInteger(value) && value > 0)) return value;
    throw this.#fault(name, value, "a whole number above 0");
  }

  /** @throws {TypeError} where the field is absent or no positive integer */
  count(name: string): number {
    return this.optionalCount(name) ?? this.#missing(name);
  }

  /** One token id or a list of them; none where absent. */
  optionalIds(name: string): readonly number[] {
    const value = this.#get(name);
    const list: readonly unknown[] = value === undefined
      ? []
      : Array.isArray(value)
      ? value
      : [value];
    return list.map((id) => {
      if (typeof id === "number" && Number.isSafeInteger(id) && id >= 0) return id;
      throw this.#fault(name, value, "a token id or a list of them");
    });
  }

  /** @throws {TypeError} where the field is absent or no list of numbers */
  numbers(name: string): readonly number[] {
    const value = this.#get(name) ?? this.#missing(name);
    if (Array.isArray(value) && value.every((item) => Number.isFinite(item))) return value;
    throw this.#fault(name, value, "a list of numbers");
  }

  /** A whole number above 0, or a list of flags. */
  optionalCountOrFlags(name: string): number | readonly boolean[] | undefined {
    const value = this.#get(name);
    if (!Array.isArray(value)) return this.optionalCount(name);
    if (value.length > 0 && value.every((item) => typeof item === "boolean")) return value;
    throw this.#fault(name, value, "a whole number above 0 or a list of true and false");
  }

  optionalTexts(name: string): readonly string[] | undefined {
    const value = this.#get(name);
    if (value === undefined) return undefined;
    if (Array.isArray(value) && value.every((item) => typeof item === "string")) return value;
    throw this.#fault(name, value, "a list of strings");
  }

  /** One string or a list of them. @throws {TypeError} where the field is absent, or neither */
  textOrTexts(name: string): readonly string[] {
    const value = this.#get(name);
    if (typeof value === "string") return [value];
    return this.optionalTexts(name) ?? this.#missing(name);
  }

  /** A special token's text: a string, or an object with its `content`; others have none. */
  optionalTokenText(name: string): string | undefined {
    const value = this.#get(name);
    if (typeof value === "string") return value;
    if (typeof value !== "object") return undefined;
    return new Fields(`${this.#source}: ${name}`, value).optionalText("content");
  }

  optionalObject(name: string): Fields | undefined {
    const value = this.#get(name);
    return value === undefined ? undefined : new Fields(`${this.#source}: ${name}`, value);
  }

  #get(name: string): unknown {
    return this.has(name) ? this.#values[name] ?? undefined : undefined;
  }

  #missing(name: string): never {
    throw new TypeError(`Cannot read ${this.#source}: ${name} is missing`);
  }

  #fault(name: string, value: unknown, wanted: string): TypeError {
    const shown = Deno.inspect(value, { colors: false }).slice(0, 80);
    return new TypeError(
      `Cannot read ${this.#source}: ${name} is ${shown}, it should be ${wanted}`,
    );
  }
}
